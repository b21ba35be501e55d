//! What is made once: by `create`, which gives one of two operators the word, and immutable. None has an
//! owner unless the spec wants keys to go with the cache: the volumes that the credentials open stay too.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use crate::cache::validate::credentials::role;
use crate::cache::validate::{Chain, Clocks, Embedded, Generated, KEYS, Key, REVOKED, ValidCache};
use crate::labels::{
    CREDENTIALS, Component, FOLLOWS, GENERATED_ID, KEY_CHAIN, KEYS_CHANGED, Names, child, labels,
};
use crate::status::timestamp;

use super::embedded::{POSTGRES_DATABASE, POSTGRES_PORT, POSTGRES_USER};

/// The keys of the embedded servers' Secrets.
pub(super) const ACCESS_KEY: &str = "access-key";
pub(super) const SECRET_KEY: &str = "secret-key";
/// Accounts that the embedded S3 server takes beside its own.
pub(super) const USERS: &str = "users.json";
pub(super) const URI: &str = "uri";
pub(super) const PASSWORD: &str = "password";

/// The signing keys that are not there yet.
pub(super) fn signing_keys(cache: &ValidCache) -> impl Iterator<Item = Secret> {
    cache.signing.keys.iter().filter_map(|key| signing_key(cache, key))
}

fn signing_key(cache: &ValidCache, key: &Key) -> Option<Secret> {
    let (generated, material) = (key.generated.as_ref()?, key.material.as_ref().ok()?);
    let data = [(key.secret.key.clone(), material.to_secret_text())].into();
    let mut secret = make(cache, generated, Component::SigningKey, data)?;
    let clocks = Clocks::from([(key.name.clone(), key.clock.clone())]);
    let clock = (Names(&cache.name).signing_clock(), clock_text(&clocks));
    let follows = key.follows.clone().map(|name| (FOLLOWS.to_owned(), name));
    secret.metadata.annotations.get_or_insert_default().extend([clock].into_iter().chain(follows));
    if !cache.signing.retain {
        secret.metadata.owner_references = Some(owners(cache));
    }
    Some(secret)
}

fn owners(cache: &ValidCache) -> Vec<OwnerReference> {
    if cache.signing.retain { Vec::new() } else { vec![cache.owner.clone()] }
}

/// What of a key's Secret is not as it should be, as a patch.
pub fn key_upkeep(cache: &ValidCache, key: &Key) -> Option<Value> {
    let found = key.found.as_ref()?;
    let mut metadata = json!({});
    let mut clocks = found.clocks.clone();
    clocks.insert(key.name.clone(), key.clock.clone());
    if clocks != found.clocks {
        metadata["annotations"] = json!({Names(&cache.name).signing_clock(): clock_text(&clocks)});
    }
    let owners = owners(cache);
    if key.generated.is_some() && found.owners != owners {
        metadata["ownerReferences"] = json!(owners);
    }
    if metadata == json!({}) {
        return None;
    }
    // With its version: what somebody else did meanwhile is looked at first.
    metadata["resourceVersion"] = json!(found.version);
    Some(json!({"metadata": metadata}))
}

/// Which keys followed by themselves, where it is not written so yet: all of the Secret where there is none, else a patch
/// of it.
pub fn key_chain(cache: &ValidCache) -> Option<Value> {
    let Chain { links, found } = &cache.signing.chain;
    let (same, none) = match found {
        Some(found) => (found.links == *links && found.owners == owners(cache), false),
        None => (links.is_empty(), true),
    };
    if same {
        return None;
    }
    let name = Names(&cache.name).key_chain();
    let labels = labels(&cache.name, Component::SigningKey);
    let mut metadata = child(name, &cache.namespace, labels, None);
    metadata.owner_references = Some(owners(cache)).filter(|owners| !none || !owners.is_empty());
    let text = serde_json::to_string(links).expect("names should be JSON");
    metadata.annotations = Some([(KEY_CHAIN.to_owned(), text)].into());
    // With its version: of two operators, one makes a key.
    metadata.resource_version = found.as_ref().map(|found| found.version.clone());
    Some(serde_json::to_value(Secret { metadata, ..Secret::default() }).expect("a Secret should be JSON"))
}

/// What the pods sign with, where it is not so yet: all of the Secret where there is none, else a patch of it.
pub fn key_set(cache: &ValidCache) -> Option<Value> {
    let set = &cache.signing.set;
    let wanted = set.wanted.as_ref()?;
    let owned = set.found.as_ref().is_some_and(|found| found.owners == [cache.owner.clone()]);
    if owned && !set.is_new() {
        return None;
    }
    let name = Names(&cache.name).key_set();
    let mut metadata =
        child(name, &cache.namespace, labels(&cache.name, Component::Server), Some(&cache.owner));
    metadata.annotations = Some([(KEYS_CHANGED.to_owned(), timestamp(set.changed_at))].into());
    // With its version: what an operator wrote meanwhile that knows more is not taken back.
    metadata.resource_version = set.found.as_ref().map(|found| found.version.clone());
    let data = [(KEYS, &wanted.keys), (REVOKED, &wanted.revoked)];
    let data = data.map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes())));
    let secret = Secret { metadata, data: Some(data.into()), ..Secret::default() };
    Some(serde_json::to_value(secret).expect("a Secret should be JSON"))
}

fn clock_text(clocks: &Clocks) -> String {
    serde_json::to_string(clocks).expect("a clock should be JSON")
}

/// The credentials of the embedded S3 server that are not there yet.
pub(super) fn s3(cache: &ValidCache, server: &Embedded) -> impl Iterator<Item = Secret> {
    server.credentials.taken().filter_map(|generated| {
        let fresh = generated.make.as_ref()?;
        let (id, key) = (&fresh.s3_access_key, &fresh.s3_secret_key);
        // As versitygw reads accounts beside that of its own start.
        let account = json!({"access": id, "secret": key, "role": "admin"});
        let users = json!({"accessAccounts": {id: account}}).to_string();
        let data = [(ACCESS_KEY, id.clone()), (SECRET_KEY, key.clone()), (USERS, users)];
        make(cache, generated, Component::S3, data.map(|(key, value)| (key.to_owned(), value)).into())
    })
}

/// The same of the embedded PostgreSQL.
pub(super) fn postgres(cache: &ValidCache, server: &Embedded) -> impl Iterator<Item = Secret> {
    server.credentials.taken().filter_map(|generated| {
        let password = &generated.make.as_ref()?.postgres_password;
        let host = format!("{}.{}.svc", Names(&cache.name).postgres(), cache.namespace);
        let role = role(POSTGRES_USER, &cache.name, &generated.name);
        let uri = format!("postgres://{role}:{password}@{host}:{POSTGRES_PORT}/{POSTGRES_DATABASE}");
        let data = [(URI.to_owned(), uri), (PASSWORD.to_owned(), password.clone())].into();
        make(cache, generated, Component::Postgres, data)
    })
}

/// How far the credentials of a server are, as a patch of the first Secret, where that is news.
pub fn credentials_note(server: &Embedded) -> Option<(&str, Value)> {
    let (note, progress) = (server.credentials.note.as_ref()?, server.credentials.progress.as_ref()?);
    let text = serde_json::to_string(progress).expect("progress should be JSON");
    // With its version: of two operators, one goes on.
    let metadata = json!({"resourceVersion": note.version, "annotations": {CREDENTIALS: text}});
    Some((&note.secret, json!({"metadata": metadata})))
}

fn make(
    cache: &ValidCache,
    generated: &Generated,
    component: Component,
    data: BTreeMap<String, String>,
) -> Option<Secret> {
    let fresh = generated.make.as_ref()?;
    let mut metadata = child(generated.name.clone(), &cache.namespace, labels(&cache.name, component), None);
    metadata.annotations = Some([(GENERATED_ID.to_owned(), fresh.id.clone())].into());
    Some(Secret {
        metadata,
        type_: Some("Opaque".to_owned()),
        immutable: Some(true),
        string_data: Some(data),
        ..Secret::default()
    })
}
