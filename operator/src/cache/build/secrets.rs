//! What is made once: by `create`, which gives one of two operators the word, and immutable. None has an
//! owner unless the spec wants keys to go with the cache: the volumes that the credentials open stay too.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;

use crate::cache::validate::{Embedded, Generated, ValidCache};
use crate::labels::{Component, GENERATED_ID, Names, child, labels};

use super::embedded::{POSTGRES_DATABASE, POSTGRES_PORT, POSTGRES_USER};

/// The keys of the embedded servers' Secrets.
pub(super) const ACCESS_KEY: &str = "access-key";
pub(super) const SECRET_KEY: &str = "secret-key";
pub(super) const URI: &str = "uri";
pub(super) const PASSWORD: &str = "password";

pub(super) fn signing_key(cache: &ValidCache) -> Option<Secret> {
    let generated = cache.signing.generated.as_ref()?;
    let key = cache.signing.key.as_ref().ok()?;
    let data = [(cache.signing.secret.key.clone(), key.to_secret_text())].into();
    let mut secret = make(cache, generated, Component::SigningKey, data)?;
    if !cache.signing.retain {
        secret.metadata.owner_references = Some(vec![cache.owner.clone()]);
    }
    Some(secret)
}

pub(super) fn s3(cache: &ValidCache, server: &Embedded) -> Option<Secret> {
    let fresh = server.credentials.make.as_ref()?;
    let data = [(ACCESS_KEY, &fresh.s3_access_key), (SECRET_KEY, &fresh.s3_secret_key)]
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .into();
    make(cache, &server.credentials, Component::S3, data)
}

pub(super) fn postgres(cache: &ValidCache, server: &Embedded) -> Option<Secret> {
    let password = &server.credentials.make.as_ref()?.postgres_password;
    let host = format!("{}.{}.svc", Names(&cache.name).postgres(), cache.namespace);
    let uri = format!("postgres://{POSTGRES_USER}:{password}@{host}:{POSTGRES_PORT}/{POSTGRES_DATABASE}");
    let data = [(URI.to_owned(), uri), (PASSWORD.to_owned(), password.clone())].into();
    make(cache, &server.credentials, Component::Postgres, data)
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
