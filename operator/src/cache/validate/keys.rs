//! What a cache signs with.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use niks3_protocol::nix::SecretKey;
use sha2::{Digest as _, Sha256};

use crate::crd::BinaryCache;
use crate::crd::binary_cache::{KeyStage, Resign, ResignState, SigningKey};
use crate::crd::conditions::Reason;
use crate::labels::{self, Names};

use super::key_name::default_name;
use super::key_secret::{clocks, found, parse};
use super::key_set::KeySet;
use super::rotation::{Candidate, Clock, Clocks, Pace, stages};
use super::secrets::{Generated, Resolver, SecretFile};
use super::{Invalid, retains_keys};

/// The key of a generated Secret that holds the signing key.
const SECRET_KEY: &str = "secret";

/// What a cache signs with.
#[derive(Debug)]
pub struct Signing {
    /// Its keys, in the order of the spec.
    pub keys: Vec<Key>,
    /// What the pods sign with.
    pub set: KeySet,
    /// Whether the Secrets of generated keys outlive the cache.
    pub retain: bool,
    /// Whether stored narinfos are signed again by themselves.
    pub resigns: bool,
    pace: Pace,
}

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

impl Signing {
    pub(super) fn of(cache: &BinaryCache, url: &str, resolver: &mut Resolver<'_>) -> Result<Self, Invalid> {
        let spec = &cache.spec.signing;
        let pace = Pace::of(&spec.rotation)?;
        let mut keys = if spec.keys.is_empty() {
            vec![unnamed(url, resolver)?]
        } else {
            unlisted(&spec.keys, resolver)?;
            spec.keys.iter().map(|key| named(key, resolver)).collect::<Result<_, _>>()?
        };
        let told = cache.status.as_ref().map(|status| status.signing_keys.as_slice()).unwrap_or_default();
        for key in &mut keys {
            let Some(before) = told.iter().find(|told| told.name == key.name) else { continue };
            let known = Clock {
                published_at: before.published_at.clone(),
                signing_since: before.signing_since.clone(),
                in_force_since: before.in_force_since.clone(),
                retired_at: before.retired_at.clone(),
            };
            let in_force = known.in_force_since.clone().filter(|_| known.signing_since.is_some());
            let since = known.signing_since.clone();
            // Of a Secret that is there, its clock counts: what it does not say was taken back.
            key.clock = match &key.found {
                Some(found) if found.clocks.contains_key(&key.name) => key.clock.clone(),
                _ => key.clock.clone().or(known),
            };
            // That all pods sign with it is learned after the clock was written.
            if key.clock.signing_since == since {
                key.clock.in_force_since = key.clock.in_force_since.take().or(in_force);
            }
            key.public_key = key.public_key.take().or_else(|| Some(before.public_key.clone()));
        }
        // Before pods took keys while they ran, each change of keys made new ones.
        if keys.len() > 1 && !resolver.observed.secrets.contains_key(&Names(resolver.cache).key_set()) {
            for Key { clock, .. } in &mut keys {
                clock.in_force_since = clock.in_force_since.take().or_else(|| clock.signing_since.clone());
            }
        }
        let resigns = spec.rotation.resign == Resign::Background;
        let resign = cache.status.as_ref().and_then(|status| status.resign.as_ref());
        let resigned =
            resign.filter(|resign| resign.state == ResignState::Succeeded).map(|resign| &resign.keys);
        let candidate = |key: &Key| Candidate {
            wanted: key.wanted,
            usable: key.material.is_ok(),
            clock: key.clock.clone(),
            in_all: !resigns || resigned.is_some_and(|names| names.contains(&key.name)),
            waits: false,
        };
        let mut candidates: Vec<Candidate> = keys.iter().map(candidate).collect();
        let stages = stages(&mut candidates, pace, resolver.observed.now);
        for ((key, judged), stage) in keys.iter_mut().zip(candidates).zip(stages) {
            (key.clock, key.stage, key.waits) = (judged.clock, stage, judged.waits);
        }
        // Pods take other keys while they run: no version of theirs makes new ones.
        resolver.versions.clear();
        let set = KeySet::of(&keys, resolver)?;
        Ok(Self { keys, set, retain: retains_keys(&cache.spec), resigns, pace })
    }

    /// The keys that sign.
    pub fn signing(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| key.stage == KeyStage::Sign)
    }

    /// The keys that clients are told of.
    pub fn published(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| key.stage != KeyStage::Revoke)
    }

    /// The keys that sign after an earlier one, which they are to take over from.
    pub fn successors(&self) -> impl Iterator<Item = &Key> {
        self.signing().skip(1)
    }

    /// A key that signs on only because not all of what it signed is signed by its successor.
    pub fn waiting(&self) -> Option<&Key> {
        self.signing().find(|key| key.waits)
    }

    /// When a key that is published signs by itself.
    pub fn signs_at(&self, key: &Key) -> Option<String> {
        self.pace.signs_at(&key.clock).map(crate::status::timestamp)
    }
}

/// The one key of a cache whose spec names none.
fn unnamed(url: &str, resolver: &mut Resolver<'_>) -> Result<Key, Invalid> {
    let mut key = generated(&default_name(url), &Names(resolver.cache).signing(), None, resolver)?;
    // It was named after the URL of its day, and stays.
    if let Ok(material) = &key.material {
        material.name().clone_into(&mut key.name);
        key.clock =
            key.found.as_ref().and_then(|found| found.clocks.get(&key.name).cloned()).unwrap_or_default();
    }
    Ok(key)
}

fn named(wanted: &SigningKey, resolver: &mut Resolver<'_>) -> Result<Key, Invalid> {
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
        let names = Names(resolver.cache);
        // The key of the days when the spec named none.
        let first = held(observed.secrets.get(&names.signing())).is_some_and(|held| held.name() == name);
        let secret = if first { names.signing() } else { names.signing_key(name) };
        generated(name, &secret, Some(wanted.stage), resolver)?
    };
    key.wanted = wanted.stage;
    Ok(key)
}

/// A key that signs and that the spec forgets would be lost to clients without a word.
fn unlisted(keys: &[SigningKey], resolver: &Resolver<'_>) -> Result<(), Invalid> {
    let names = Names(resolver.cache);
    let Some(found) = resolver.observed.secrets.get(&names.signing()) else { return Ok(()) };
    let Some(held) = held(Some(found)).filter(|_| labels::is_ours(found, resolver.cache)) else {
        return Ok(());
    };
    let clock = clocks(found, resolver.cache).remove(held.name()).unwrap_or_default();
    let signs = clock.signing_since.is_some() && clock.retired_at.is_none();
    if !signs || keys.iter().any(|key| key.name == held.name()) {
        return Ok(());
    }
    let message = format!(
        "signing.keys: {} of Secret {} signs; list it before the keys that follow it",
        held.name(),
        names.signing()
    );
    Err(Invalid { reason: Reason::InvalidSpec, message })
}

/// The key in a Secret of ours.
fn held(secret: Option<&Secret>) -> Option<SecretKey> {
    let value = secret?.data.as_ref()?.get(SECRET_KEY)?;
    std::str::from_utf8(&value.0).ok()?.parse().ok()
}

fn generated(
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
        clock: found.as_ref().and_then(|found| found.clocks.get(name).cloned()).unwrap_or_default(),
        public_key: material.as_ref().ok().map(|key| key.public_key().to_string()),
        stage: KeyStage::Auto,
        wanted: KeyStage::Auto,
        waits: false,
        name: name.to_owned(),
        secret,
        generated,
        material,
        found,
    }
}
