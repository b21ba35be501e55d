//! A cache whose API server is a map, and what must hold of it after every call.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use niks3_protocol::nix::SecretKey;
use serde_json::{Value, json};

use crate::apply::ApplyError;
use crate::cache::arbitrary::{images, observed};
use crate::cache::build::{build, key_chain, key_set, key_upkeep};
use crate::cache::observe::{Fresh, Observed};
use crate::cache::pods::Pods;
use crate::cache::report::{Outcome, keys};
use crate::cache::validate::{ValidCache, any_waits, next_secret, secret_names, validate};
use crate::crd::BinaryCache;
use crate::crd::binary_cache::{ResignProgress, ResignState};
use crate::labels::Names;

pub(super) const HOUR: i64 = 3600;
const PUBLISH: i64 = 168 * HOUR;
const OVERLAP: i64 = 720 * HOUR;
/// Clocks are wrong by so much at most.
const SKEW: i64 = HOUR;
const NAMES: Names<'static> = Names("main");

pub(super) struct World {
    cache: BinaryCache,
    secrets: BTreeMap<String, Secret>,
    /// What clients are told, by since when.
    told: BTreeMap<String, i64>,
    /// What the pods sign with, by since when.
    signs: BTreeMap<String, i64>,
    /// What each name ever stood for.
    names: BTreeMap<String, String>,
    dropped: BTreeSet<String>,
    luck: u64,
    pub(super) now: i64,
    pub(super) well: bool,
    /// How many calls are left until one fails.
    fails_in: Option<i64>,
    writes: usize,
}

/// What became of a call that failed.
struct Failed;

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let storage = json!({"s3": {"bucket": "nix", "credentials": {"workloadIdentity": {}}}});
        let rotation = json!({"rotation": {"interval": "2160h"}});
        let spec =
            json!({"storage": storage, "database": {"urlSecretRef": {"name": "db"}}, "signing": rotation});
        let cache = json!({"apiVersion": "niks3.dev/v1alpha1", "kind": "BinaryCache", "spec": spec,
            "metadata": {"name": "main", "namespace": "nix", "uid": "0"}, "status": {}});
        Self {
            cache: serde_json::from_value(cache).unwrap(),
            secrets: BTreeMap::new(),
            told: BTreeMap::new(),
            signs: BTreeMap::new(),
            names: BTreeMap::new(),
            dropped: BTreeSet::new(),
            luck: seed,
            now: 1_800_000_000,
            well: false,
            fails_in: None,
            writes: 0,
        }
    }

    /// Evenly below `below`: splitmix64.
    pub(super) fn chance(&mut self, below: i64) -> i64 {
        self.luck = self.luck.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.luck ^ (self.luck >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::try_from((mixed ^ (mixed >> 31)) >> 1).unwrap() % below
    }

    pub(super) fn made(&self) -> i64 {
        i64::try_from(self.names.len()).unwrap()
    }

    pub(super) fn dropped(&self) -> i64 {
        i64::try_from(self.dropped.len()).unwrap()
    }

    pub(super) fn look_with_luck(&mut self) {
        self.fails_in = (self.chance(8) == 0).then(|| self.chance(9));
        let skew = self.chance(2 * SKEW) - SKEW;
        self.look(skew);
    }

    /// Soon a look writes nothing more.
    pub(super) fn settle(&mut self) {
        self.fails_in = None;
        for _ in 0..9 {
            let (before, status) = (self.writes, self.cache.status.clone());
            self.look(0);
            if self.writes == before && self.cache.status == status {
                return;
            }
        }
        panic!("each look writes something");
    }

    pub(super) fn lose_the_status(&mut self) {
        self.cache.status = None;
    }

    pub(super) fn lose_the_chain(&mut self) {
        self.secrets.remove(&NAMES.key_chain());
    }

    /// What has an owner goes; keys stay.
    pub(super) fn make_the_cache_anew(&mut self) {
        self.cache.status = None;
        self.secrets.remove(&NAMES.key_set());
        self.told.clear();
    }

    pub(super) fn throw_old_secrets_away(&mut self) {
        let dropped = &self.dropped;
        self.secrets.retain(|_, secret| key_of(secret).is_none_or(|(name, _)| !dropped.contains(&name)));
    }

    fn observe(&mut self, now: i64) -> Observed {
        let names = [NAMES.signing(), NAMES.key_set(), NAMES.key_chain()];
        let get = |name: String| self.secrets.get(&name).map(|found| (name, found.clone()));
        let mut read: BTreeMap<String, Secret> = names.into_iter().filter_map(get).collect();
        let names = secret_names(&self.cache, &read).into_iter();
        read.extend(names.filter_map(get));
        let mut last = None;
        while let Some(next) = next_secret(&self.cache, &read).filter(|next| last.as_ref() != Some(next)) {
            read.extend(get(next.clone()));
            last = Some(next);
        }
        let told = any_waits("main", read.values()).then(|| self.told.keys().cloned().collect());
        let mut seed = [0; 32];
        seed.fill_with(|| u8::try_from(self.chance(256)).unwrap());
        let nothing = observed();
        let fresh = Fresh { signing_seed: seed, ..nothing.fresh };
        let now = Timestamp::from_second(now).unwrap();
        Observed { secrets: read, told, fresh, now, ..nothing }
    }

    fn look(&mut self, skew: i64) {
        let observed = self.observe(self.now + skew);
        let valid = validate(&self.cache, &observed, &images());
        let applied = self.apply(valid.as_ref().unwrap());
        self.well = applied.is_ok();
        if applied.is_err() && self.chance(2) == 0 {
            // It crashed.
            return;
        }
        let source = kube::Error::LinesCodecMaxLineLengthExceeded;
        let error = Err(ApplyError::new::<Secret>("create", "main", source));
        let pods = Pods::default();
        let answered = self.chance(3) > 0;
        let outcome = Outcome {
            valid: &valid,
            applied: (!self.well).then_some(&error),
            pods: &pods,
            probed: None,
            // All pods have them, or nobody knows.
            keys: (self.well && answered).then_some(&[]),
        };
        let mut status = self.cache.status.clone().unwrap_or_default();
        let sign = &valid.as_ref().unwrap().signing;
        let names: Vec<String> = sign.signing().map(|key| key.name.clone()).collect();
        let known = status.resign.as_ref().is_some_and(|resign| resign.keys == names);
        if !known && self.well && self.chance(4) == 0 {
            let time = self.now.to_string();
            status.resign =
                Some(ResignProgress { keys: names, state: ResignState::Succeeded, total: 5, done: 5, time });
        }
        keys::tell(&mut status, valid.as_ref().unwrap(), &outcome, observed.now);
        self.cache.status = Some(status);
    }

    /// The calls that the real one makes, in its order.
    fn apply(&mut self, valid: &ValidCache) -> Result<(), Failed> {
        for mut secret in build(valid).secrets {
            let data = secret.string_data.take().unwrap_or_default();
            let data = data.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes())));
            secret.data = Some(data.collect());
            let found = self.secrets.contains_key(&secret.name_any());
            assert!(!found, "Secret {} is made twice", secret.name_any());
            let value = serde_json::to_value(secret).unwrap();
            self.call(|world| world.put(&value))?;
        }
        if let Some(wanted) = key_chain(valid) {
            self.call(|world| world.put(&wanted))?;
        }
        for key in &valid.signing.keys {
            let Some(mut patch) = key_upkeep(valid, key) else { continue };
            patch["metadata"]["name"] = json!(key.secret.secret);
            self.call(|world| world.put(&patch))?;
        }
        if let Some(wanted) = key_set(valid) {
            self.call(|world| {
                world.put(&wanted);
                world.pods_take_them();
            })?;
        }
        let keys: BTreeSet<String> = valid.public_keys.iter().cloned().collect();
        if keys.iter().ne(self.told.keys()) {
            self.call(|world| world.tell(&keys))?;
        }
        assert!(self.signs.keys().all(|key| self.told.contains_key(key)), "clients do not know what signs");
        Ok(())
    }

    fn call(&mut self, act: impl FnOnce(&mut Self)) -> Result<(), Failed> {
        self.writes += 1;
        let fails = self.fails_in.as_mut().is_some_and(|left| std::mem::replace(left, *left - 1) == 0);
        // Before it was sent, or before the answer came.
        if !fails || self.chance(2) == 0 {
            act(self);
        }
        if fails { Err(Failed) } else { Ok(()) }
    }

    /// A merge patch, or what is new.
    fn put(&mut self, patch: &Value) {
        let name = patch["metadata"]["name"].as_str().unwrap().to_owned();
        let mut value = self.secrets.get(&name).map_or_else(|| json!({}), |found| json!(found));
        merge(&mut value, patch);
        value["metadata"]["resourceVersion"] = json!(self.writes.to_string());
        let secret: Secret = serde_json::from_value(value).unwrap();
        if let Some((name, public)) = key_of(&secret) {
            let known = self.names.entry(name.clone()).or_insert_with(|| public.clone());
            assert_eq!(*known, public, "{name} stands for two keys");
        }
        self.secrets.insert(name, secret);
    }

    fn pods_take_them(&mut self) {
        let data = self.secrets[&NAMES.key_set()].data.clone().unwrap();
        let text = String::from_utf8(data["keys"].0.clone()).unwrap();
        let keys = text.lines().map(|line| line.parse::<SecretKey>().unwrap().public_key().to_string());
        let keys: BTreeSet<String> = keys.collect();
        assert!(!keys.is_empty() && keys.len() <= 2, "{} keys sign", keys.len());
        for key in keys.iter().filter(|key| !self.signs.contains_key(*key) && !self.signs.is_empty()) {
            let since =
                self.told.get(key).unwrap_or_else(|| panic!("{key} signs and no client was told of it"));
            assert!(self.now - since >= PUBLISH - 2 * SKEW, "{key} signs before clients could learn of it");
        }
        for key in self.signs.keys().filter(|key| !keys.contains(*key)) {
            let over = keys.iter().filter_map(|key| self.signs.get(key));
            let both = over.map(|since| self.now - since).max();
            assert!(
                both.is_some_and(|both| both >= OVERLAP - 2 * SKEW),
                "{key} ends before its successor is known"
            );
        }
        self.signs =
            keys.into_iter().map(|key| (key.clone(), *self.signs.get(&key).unwrap_or(&self.now))).collect();
    }

    fn tell(&mut self, keys: &BTreeSet<String>) {
        assert!(keys.len() <= 4, "clients are told {} keys", keys.len());
        let name = |key: &String| key.split(':').next().unwrap_or_default().to_owned();
        self.dropped.extend(self.told.keys().filter(|key| !keys.contains(*key)).map(name));
        assert!(keys.iter().all(|key| !self.dropped.contains(&name(key))), "a key is back: {keys:?}");
        self.told = keys.iter().map(|key| (key.clone(), *self.told.get(key).unwrap_or(&self.now))).collect();
    }
}

/// The name of the key in a Secret, and what clients trust.
fn key_of(secret: &Secret) -> Option<(String, String)> {
    let text = std::str::from_utf8(&secret.data.as_ref()?.get("secret")?.0).ok()?;
    let key: SecretKey = text.parse().ok()?;
    Some((key.name().to_owned(), key.public_key().to_string()))
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    for (key, value) in patch {
        merge(&mut target[key], value);
    }
}
