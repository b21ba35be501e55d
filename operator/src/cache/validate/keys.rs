//! What a cache signs with.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;

use crate::crd::BinaryCache;
use crate::crd::binary_cache::{KeyStage, Resign, ResignState, SigningKey};
use crate::crd::conditions::Reason;
use crate::labels::{self, Names};
use crate::status::timestamp;

use super::chain::{self, Chain};
use super::key::{Key, generated, held, linked, named, unnamed};
use super::key_secret::clock_of;
use super::key_set::KeySet;
use super::rotation::{Candidate, Clock, Pace, stages};
use super::secrets::Resolver;
use super::{Invalid, retains_keys};

/// What a cache signs with.
#[derive(Debug)]
pub struct Signing {
    /// Its keys, in the order in which they follow one another.
    pub keys: Vec<Key>,
    /// What the pods sign with.
    pub set: KeySet,
    /// Those that followed by themselves.
    pub chain: Chain,
    /// Whether the Secrets of generated keys outlive the cache.
    pub retain: bool,
    /// Whether stored narinfos are signed again by themselves.
    pub resigns: bool,
    pace: Pace,
}

impl Signing {
    pub(super) fn of(cache: &BinaryCache, url: &str, resolver: &mut Resolver<'_>) -> Result<Self, Invalid> {
        let (spec, observed) = (&cache.spec.signing, resolver.observed);
        let pace = Pace::of(&spec.rotation)?;
        let found = chain::found(cache, &observed.secrets)?;
        let links = chain::links(cache, found.as_ref(), &observed.secrets)?;
        let mut chain = Chain { links, found };
        let mut keys = listed(cache, url, &chain, resolver)?;
        follow(&mut keys, &chain, resolver)?;
        remember(cache, &mut keys);
        // Before pods took keys while they ran, each change of keys made new ones.
        if keys.len() > 1 && !observed.secrets.contains_key(&Names(resolver.cache).key_set()) {
            for Key { clock, .. } in &mut keys {
                clock.in_force_since = clock.in_force_since.take().or_else(|| clock.signing_since.clone());
            }
        }
        for key in &mut keys {
            key.wait_for_clients(observed.told.as_ref());
        }
        let resigns = spec.rotation.resign == Resign::Background;
        let resign = cache.status.as_ref().and_then(|status| status.resign.as_ref());
        let resigned =
            resign.filter(|resign| resign.state == ResignState::Succeeded).map(|resign| &resign.keys);
        let in_all = |key: &Key| resigned.is_some_and(|names| names.contains(&key.name));
        let candidate = |key: &Key| Candidate {
            // Clients trust it no more.
            wanted: if key.unlisted && key.is_dropped() { KeyStage::Retire } else { key.wanted },
            usable: key.material.is_ok(),
            clock: key.clock.clone(),
            in_all: !resigns || in_all(key),
            waits: false,
        };
        let mut candidates: Vec<Candidate> = keys.iter().map(candidate).collect();
        let stages = stages(&mut candidates, pace, observed.now);
        for ((key, judged), stage) in keys.iter_mut().zip(candidates).zip(stages) {
            (key.clock, key.stage, key.waits) = (judged.clock, stage, judged.waits);
        }
        let replaced = resigns && keys.iter().any(|key| key.stage == KeyStage::Sign && in_all(key));
        for key in &mut keys {
            key.drop_in_time(pace, replaced, observed.now);
        }
        chain.links.retain(|link| keys.iter().any(|key| key.name == link.name && !key.is_dropped()));
        let mut signing = Self {
            set: KeySet::of(&keys, resolver)?,
            keys,
            chain,
            retain: retains_keys(&cache.spec),
            resigns,
            pace,
        };
        if signing.next_key_at().is_some_and(|at| at <= observed.now) {
            signing.make_next(cache, resolver)?;
        }
        // Pods take other keys while they run: no version of theirs makes new ones.
        resolver.versions.clear();
        Ok(signing)
    }

    /// Another key follows the last one. It is published from now on, whatever became of an earlier try to make it.
    fn make_next(&mut self, cache: &BinaryCache, resolver: &mut Resolver<'_>) -> Result<(), Invalid> {
        let Some(last) = self.keys.last() else { return Ok(()) };
        let name = chain::successor(&last.name, cache, &self.chain.links, &resolver.observed.secrets);
        let secret = Names(resolver.cache).signing_key(&name);
        let mut key = generated(&name, &secret, Some(KeyStage::Auto), resolver)?;
        key.unlisted = true;
        key.stage = KeyStage::Publish;
        key.clock = Clock { published_at: Some(timestamp(resolver.observed.now)), ..Clock::default() };
        key.follows = Some(last.name.clone());
        self.chain.add(&key, last);
        self.keys.push(key);
        Ok(())
    }

    /// The keys that sign.
    pub fn signing(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| key.stage == KeyStage::Sign)
    }

    /// The keys that clients are told of.
    pub fn published(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| key.stage != KeyStage::Revoke && !key.is_dropped())
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
        self.pace.signs_at(&key.clock).map(timestamp)
    }

    /// When another key follows the last one by itself. None does while a rotation is under way, nor one that is held at
    /// a stage, or that is away.
    pub fn next_key_at(&self) -> Option<Timestamp> {
        let last = self.keys.last()?;
        let alone = self.signing().count() == 1 && last.stage == KeyStage::Sign;
        self.pace
            .next_at(&last.clock)
            .filter(|_| alone && last.wanted == KeyStage::Auto && last.material.is_ok())
    }

    /// The key that none follows by itself because it is held where it is.
    pub fn held(&self) -> Option<&Key> {
        let last = self.keys.last().filter(|last| last.wanted != KeyStage::Auto);
        last.filter(|_| self.pace.goes_on())
    }
}

/// The keys that the spec lists, or the one that stands for none.
fn listed(
    cache: &BinaryCache,
    url: &str,
    chain: &Chain,
    resolver: &mut Resolver<'_>,
) -> Result<Vec<Key>, Invalid> {
    let listed = &cache.spec.signing.keys;
    if !listed.is_empty() {
        unlisted(listed, resolver)?;
        return listed.iter().map(|key| named(key, resolver)).collect();
    }
    if chain::first_is_gone(resolver.cache, &chain.links, &resolver.observed.secrets) {
        return Ok(Vec::new());
    }
    let first = unnamed(url, resolver)?;
    if chain.links.is_empty() && first.is_dropped() {
        let message = format!(
            "Secret {} is gone, which said what followed the key {}, and the status does not say it either; put it \
             back, or list what is to sign under signing.keys",
            Names(resolver.cache).key_chain(),
            first.name
        );
        return Err(Invalid { reason: Reason::InvalidSpec, message });
    }
    Ok(vec![first])
}

/// Adds those that followed by themselves, each behind the key that it followed.
fn follow(keys: &mut Vec<Key>, chain: &Chain, resolver: &mut Resolver<'_>) -> Result<(), Invalid> {
    let listed: Vec<String> = keys.iter().map(|key| key.name.clone()).collect();
    let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
    let order = chain::order(&listed, &chain.links);
    for link in chain.links.iter().filter(|link| !listed.contains(&link.name.as_str())) {
        keys.push(linked(link, resolver)?);
    }
    keys.sort_by_key(|key| order.iter().position(|name| *name == key.name));
    Ok(())
}

/// The status repeats what the clocks on the Secrets say.
fn remember(cache: &BinaryCache, keys: &mut [Key]) {
    let told = cache.status.as_ref().map(|status| status.signing_keys.as_slice()).unwrap_or_default();
    for key in keys {
        let Some(before) = told.iter().find(|told| told.name == key.name) else { continue };
        let known = Clock {
            published_at: before.published_at.clone(),
            signing_since: before.signing_since.clone(),
            in_force_since: before.in_force_since.clone(),
            retired_at: before.retired_at.clone(),
            dropped_at: None,
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
}

impl Key {
    /// Whether clients are told of it no more.
    pub fn is_dropped(&self) -> bool {
        self.clock.dropped_at.is_some()
    }

    /// The time for which a key is published counts from when clients could learn of it.
    fn wait_for_clients(&mut self, told: Option<&BTreeSet<String>>) {
        let waits = self.clock.waits() && !matches!(self.wanted, KeyStage::Retire | KeyStage::Revoke);
        let (Some(told), Some(public_key)) = (told, &self.public_key) else { return };
        if waits && !told.contains(public_key) {
            self.clock.published_at = None;
        }
    }

    /// Clients are no longer told of a key that nobody listed, once all that it signed has been signed by another for
    /// so long that whoever remembers narinfos of before has forgotten them.
    fn drop_in_time(&mut self, pace: Pace, replaced: bool, now: Timestamp) {
        if !self.unlisted || self.stage != KeyStage::Retire {
            self.clock.dropped_at = None;
        } else if replaced && pace.dropped_at(&self.clock).is_some_and(|at| at <= now) {
            self.clock.dropped_at.get_or_insert_with(|| timestamp(now));
        }
    }
}

/// A key that signs and that the spec forgets would be lost to clients without a word.
fn unlisted(keys: &[SigningKey], resolver: &Resolver<'_>) -> Result<(), Invalid> {
    let names = Names(resolver.cache);
    let Some(found) = resolver.observed.secrets.get(&names.signing()) else { return Ok(()) };
    let Some(held) = held(Some(found)).filter(|_| labels::is_ours(found, resolver.cache)) else {
        return Ok(());
    };
    let clock = clock_of(found, resolver.cache, held.name());
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
