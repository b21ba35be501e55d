//! A key of a cache, as its Secret and the spec have it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use niks3_protocol::nix::SecretKey;
use sha2::{Digest as _, Sha256};

use crate::crd::binary_cache::{KeyStage, SigningKey};
use crate::crd::conditions::Reason;
use crate::labels::Names;

use super::Invalid;
use super::chain::Link;
use super::key_name::default_name;
use super::key_secret::{found, parse};
use super::rotation::{Clock, Clocks};
use super::secrets::{Generated, Resolver, SecretFile};

/// The key of a generated Secret that holds the signing key.
const SECRET_KEY: &str = "secret";

/// A signing key.
#[derive(Debug)]
pub struct Key {
    /// Its name, and that of its file.
    pub name: String,
    /// Where it is.
    pub secret: SecretFile,
    /// The Secret, where the operator makes it.
    pub generated: Option<Generated>,
    /// The key, or why there is none.
    pub material: Result<SecretKey, (Reason, String)>,
    /// What it does.
    pub stage: KeyStage,
    /// What the spec says it does.
    pub wanted: KeyStage,
    /// Since when it does so.
    pub clock: Clock,
    /// It would sign no more, were its successor's signature in all that is stored.
    pub waits: bool,
    /// What clients trust, as far as that is known.
    pub public_key: Option<String>,
    /// Nobody listed it: it goes by itself once nothing needs it any more.
    pub unlisted: bool,
    /// The key that it is made to follow.
    pub follows: Option<String>,
    /// The Secret as it is.
    pub found: Option<Found>,
}

/// What of a key's Secret the operator keeps in order.
#[derive(Debug)]
pub struct Found {
    /// Its version.
    pub version: String,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
    /// The clocks in it.
    pub clocks: Clocks,
}

/// The one key of a cache whose spec names none.
pub(super) fn unnamed(url: &str, resolver: &mut Resolver<'_>) -> Result<Key, Invalid> {
    let mut key = generated(&default_name(url), &Names(resolver.cache).signing(), None, resolver)?;
    key.unlisted = true;
    // It was named after the URL of its day, and stays.
    if let Ok(material) = &key.material {
        material.name().clone_into(&mut key.name);
        key.clock = clock(key.found.as_ref(), &key.name);
    }
    Ok(key)
}

pub(super) fn named(wanted: &SigningKey, resolver: &mut Resolver<'_>) -> Result<Key, Invalid> {
    let (name, observed) = (&wanted.name, resolver.observed);
    let mut key = if let Some(brought) = &wanted.secret_key_ref {
        let needed = !matches!(wanted.stage, KeyStage::Retire | KeyStage::Revoke);
        let value = if needed {
            resolver.value(&brought.name, &brought.key)
        } else {
            let found = observed.secrets.get(&brought.name);
            found.and_then(|found| found.data.as_ref()?.get(&brought.key)).map(|value| value.0.as_slice())
        };
        let secret = SecretFile { secret: brought.name.clone(), key: brought.key.clone() };
        let material = parse(value, &secret, Some(name));
        key(name, secret, None, material, resolver)
    } else {
        generated(name, &secret_of(name, resolver), Some(wanted.stage), resolver)?
    };
    key.wanted = wanted.stage;
    Ok(key)
}

/// A key that followed another one by itself. It is never made anew: what its name stands for is known.
pub(super) fn linked(link: &Link, resolver: &mut Resolver<'_>) -> Result<Key, Invalid> {
    let secret = secret_of(&link.name, resolver);
    let mut key = generated(&link.name, &secret, Some(KeyStage::Retire), resolver)?;
    key.unlisted = true;
    let public = key.public_key.replace(link.public_key.clone());
    if public.is_some_and(|public| public != link.public_key) {
        let message = format!("Secret {secret} holds another key than it was made with: {}", link.public_key);
        key.material = Err((Reason::InvalidKey, message));
    }
    Ok(key)
}

/// The Secret of a generated key.
fn secret_of(name: &str, resolver: &Resolver<'_>) -> String {
    let names = Names(resolver.cache);
    // The key of the days when the spec named none.
    let first = first_key(&resolver.observed.secrets, resolver.cache);
    if first.is_some_and(|held| held.name() == name) { names.signing() } else { names.signing_key(name) }
}

/// The key in a Secret of ours.
pub(super) fn held(secret: Option<&Secret>) -> Option<SecretKey> {
    let value = secret?.data.as_ref()?.get(SECRET_KEY)?;
    std::str::from_utf8(&value.0).ok()?.parse().ok()
}

/// The key that was made while the spec listed none.
pub(super) fn first_key(secrets: &BTreeMap<String, Secret>, cache: &str) -> Option<SecretKey> {
    held(secrets.get(&Names(cache).signing()))
}

pub(super) fn generated(
    name: &str,
    secret: &str,
    stage: Option<KeyStage>,
    resolver: &mut Resolver<'_>,
) -> Result<Key, Invalid> {
    let at = SecretFile { secret: secret.to_owned(), key: SECRET_KEY.to_owned() };
    let mut generated = resolver.generated(secret)?;
    if matches!(stage, Some(KeyStage::Retire | KeyStage::Revoke)) {
        // What is not there has signed nothing.
        generated.make = None;
    }
    let material = if let Some(fresh) = &generated.make {
        let seed = match stage {
            None => fresh.signing_seed,
            // One each.
            Some(_) => Sha256::new().chain_update(fresh.signing_seed).chain_update(name).finalize().into(),
        };
        SecretKey::from_seed(name, seed).map_err(|error| (Reason::InvalidKey, format!("{name} {error}")))
    } else {
        let found = resolver.observed.secrets.get(secret);
        let value = found.and_then(|found| found.data.as_ref()?.get(SECRET_KEY));
        parse(value.map(|value| value.0.as_slice()), &at, stage.map(|_| name))
    };
    Ok(key(name, at, Some(generated), material, resolver))
}

fn key(
    name: &str,
    secret: SecretFile,
    generated: Option<Generated>,
    material: Result<SecretKey, (Reason, String)>,
    resolver: &Resolver<'_>,
) -> Key {
    let found = found(resolver.observed, &secret.secret, resolver.cache);
    Key {
        clock: clock(found.as_ref(), name),
        public_key: material.as_ref().ok().map(|key| key.public_key().to_string()),
        stage: KeyStage::Auto,
        wanted: KeyStage::Auto,
        waits: false,
        unlisted: false,
        follows: None,
        name: name.to_owned(),
        secret,
        generated,
        material,
        found,
    }
}

/// What is known of a key in its Secret.
fn clock(found: Option<&Found>, name: &str) -> Clock {
    found.and_then(|found| found.clocks.get(name).cloned()).unwrap_or_default()
}
