//! Pure: keys that follow one another by themselves. A Secret of its own lists them behind the keys of the spec; to all
//! else they are what a listed key is, with their clocks on their own Secrets.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt as _;
use niks3_protocol::nix::SecretKey;
use serde::{Deserialize, Serialize};

use crate::crd::BinaryCache;
use crate::crd::binary_cache::SigningKey;
use crate::crd::conditions::Reason;
use crate::labels::{self, FOLLOWS, KEY_CHAIN, Names};

use super::Invalid;
use super::key::{Key, first_key, held};
use super::key_name::counted_up;
use super::key_secret::clock_of;
use super::secrets::ours;

/// A key that followed another one by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Its name.
    pub name: String,
    /// The key of the spec behind which it stands, after those that stand there already.
    pub after: String,
    /// What it was made with: its name never stands for another one.
    pub public_key: String,
}

/// The Secret that lists them.
#[derive(Debug)]
pub struct Chain {
    /// What it is to say.
    pub links: Vec<Link>,
    /// What it is.
    pub found: Option<FoundChain>,
}

/// The Secret as it is.
#[derive(Debug)]
pub struct FoundChain {
    /// Its version.
    pub version: String,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
    /// What it says.
    pub links: Vec<Link>,
}

type Secrets = BTreeMap<String, Secret>;

/// The Secret as it is.
pub(super) fn found(cache: &BinaryCache, secrets: &Secrets) -> Result<Option<FoundChain>, Invalid> {
    let (owner, name) = (cache.name_any(), Names(&cache.name_any()).key_chain());
    let Some(secret) = secrets.get(&name) else { return Ok(None) };
    ours(secret, &name, &owner)?;
    let text = secret.annotations().get(KEY_CHAIN).map(String::as_str).unwrap_or_default();
    let links = serde_json::from_str(text).map_err(|error| {
        let message = format!(
            "Secret {name}: its annotation {KEY_CHAIN} says which keys followed by themselves and cannot be read: \
             {error}; put back what it was, or delete the Secret: the status knows them too"
        );
        Invalid { reason: Reason::InvalidSpec, message }
    })?;
    let version = secret.resource_version().unwrap_or_default();
    Ok(Some(FoundChain { version, owners: secret.owner_references().to_vec(), links }))
}

/// The keys that followed by themselves and that nobody listed since. The status repeats them; either may be lost.
pub(super) fn links(
    cache: &BinaryCache,
    found: Option<&FoundChain>,
    secrets: &Secrets,
) -> Result<Vec<Link>, Invalid> {
    let links = found.map_or_else(|| told(cache, secrets), |found| found.links.clone());
    let mut moved = BTreeMap::new();
    let mut rest = Vec::new();
    for mut link in links {
        // What follows a key that is listed now follows it there.
        if let Some(listed) = cache.spec.signing.keys.iter().find(|key| key.name == link.name) {
            own(listed)?;
            moved.insert(link.after, link.name);
            continue;
        }
        if let Some(listed) = moved.get(&link.after) {
            link.after.clone_from(listed);
        }
        rest.push(link);
    }
    Ok(rest)
}

/// A name stands for one key.
fn own(listed: &SigningKey) -> Result<(), Invalid> {
    if listed.secret_key_ref.is_none() {
        return Ok(());
    }
    let message = format!(
        "signing.keys: {} was generated when it followed by itself; list it without secretKeyRef",
        listed.name
    );
    Err(Invalid { reason: Reason::InvalidSpec, message })
}

/// What the status says of them, where their own Secret is lost.
fn told(cache: &BinaryCache, secrets: &Secrets) -> Vec<Link> {
    let (name, listed) = (cache.name_any(), &cache.spec.signing.keys);
    let (mut after, mut links) = (String::new(), Vec::new());
    for key in cache.status.iter().flat_map(|status| &status.signing_keys) {
        let secret = secrets.get(&Names(&name).signing_key(&key.name));
        if listed.iter().any(|listed| listed.name == key.name) || key.secret_name == Names(&name).signing() {
            after.clone_from(&key.name);
        } else if secret.is_some_and(|secret| follows(secret, &name, &key.name).is_some()) {
            let (name, public_key) = (key.name.clone(), key.public_key.clone());
            links.push(Link { name, after: after.clone(), public_key });
        }
    }
    links
}

/// Whom the key `name` in a Secret of ours was made to follow.
fn follows<'a>(secret: &'a Secret, cache: &str, name: &str) -> Option<&'a str> {
    let is_it = labels::is_ours(secret, cache) && held(Some(secret)).is_some_and(|held| held.name() == name);
    secret.annotations().get(FOLLOWS).map(String::as_str).filter(|_| is_it)
}

/// The Secrets of keys that nobody lists, as far as what was read tells.
pub fn secret_names(cache: &BinaryCache, secrets: &Secrets) -> Vec<String> {
    let (name, listed) = (cache.name_any(), &cache.spec.signing.keys);
    let known = match found(cache, secrets) {
        Ok(Some(found)) => found.links.into_iter().map(|link| link.name).collect(),
        _ => {
            cache.status.iter().flat_map(|s| &s.signing_keys).map(|key| key.name.clone()).collect::<Vec<_>>()
        }
    };
    let first = first_key(secrets, &name);
    let read = |key: &str| first.as_ref().is_some_and(|first| first.name() == key);
    let unread = known.iter().filter(|key| !read(key) && listed.iter().all(|listed| listed.name != **key));
    unread.map(|key| Names(&name).signing_key(key)).collect()
}

/// The Secret of the key that would follow next, as far as what was read tells.
pub fn next_secret(cache: &BinaryCache, secrets: &Secrets) -> Option<String> {
    cache.spec.signing.rotation.interval.as_ref()?;
    let links = links(cache, found(cache, secrets).ok()?.as_ref(), secrets).ok()?;
    let name = cache.name_any();
    let first = first_key(secrets, &name).map(|held| held.name().to_owned());
    let first = first.filter(|_| !first_is_gone(&name, &links, secrets));
    let listed: Vec<&str> = match cache.spec.signing.keys.as_slice() {
        [] => first.iter().map(String::as_str).collect(),
        listed => listed.iter().map(|key| key.name.as_str()).collect(),
    };
    let last = order(&listed, &links).pop()?;
    Some(Names(&name).signing_key(&successor(last, cache, &links, secrets)))
}

/// Whether others followed the one key of a cache whose spec lists none, so long ago that nobody needs it.
pub(super) fn first_is_gone(cache: &str, links: &[Link], secrets: &Secrets) -> bool {
    let Some(secret) = secrets.get(&Names(cache).signing()) else { return !links.is_empty() };
    let clock = held(Some(secret)).map(|held| clock_of(secret, cache, held.name()));
    !links.is_empty() && clock.is_some_and(|clock| clock.dropped_at.is_some())
}

/// The names of all keys in the order in which they follow one another.
pub(super) fn order<'a>(listed: &[&'a str], links: &'a [Link]) -> Vec<&'a str> {
    let mut order: Vec<(&str, Option<&str>)> = listed.iter().map(|name| (*name, None)).collect();
    for link in links.iter().filter(|link| !listed.contains(&link.name.as_str())) {
        let after = Some(link.after.as_str());
        // What stood behind a key that is gone was there before all that is left.
        let last = order.iter().rposition(|(name, behind)| Some(*name) == after || *behind == after);
        order.insert(last.map_or(0, |last| last + 1), (&link.name, after));
    }
    order.into_iter().map(|(name, _)| name).collect()
}

/// The name of the key that follows `last`: one that no key has or had, but one that was made for this and nothing else.
pub(super) fn successor(last: &str, cache: &BinaryCache, links: &[Link], secrets: &Secrets) -> String {
    let (owner, listed) = (cache.name_any(), &cache.spec.signing.keys);
    let names = Names(&owner);
    let first = first_key(secrets, &owner);
    let mut name = counted_up(last);
    loop {
        let known = listed.iter().map(|key| &key.name).chain(links.iter().map(|link| &link.name));
        let known = known.map(String::as_str).chain(first.as_ref().map(SecretKey::name));
        let made = secrets.get(&names.signing_key(&name));
        let taken = made.is_some_and(|made| {
            follows(made, &owner, &name) != Some(last) || !clock_of(made, &owner, &name).waits()
        });
        if !taken && known.into_iter().all(|known| known != name) {
            return name;
        }
        name = counted_up(&name);
    }
}

impl Chain {
    /// Notes that `key` follows `last`. The first key of a cache whose spec lists none is noted with it: it stays known
    /// where others are listed later.
    pub(super) fn add(&mut self, key: &Key, last: &Key) {
        let Some(public_key) = key.public_key.clone() else { return };
        let behind = self.links.iter().find(|link| link.name == last.name && !link.after.is_empty());
        let after = behind.map_or(&last.name, |link| &link.after).clone();
        if last.unlisted && self.links.iter().all(|link| link.name != last.name) {
            let public_key = last.public_key.clone().unwrap_or_default();
            self.links.push(Link { name: last.name.clone(), after: String::new(), public_key });
        }
        self.links.push(Link { name: key.name.clone(), after, public_key });
    }
}
