//! What the watches have told of children, so that a look need not list them: of each, only what shows whether it is as
//! it was left. Ten thousand children take two megabytes so.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::Resource;
use kube::api::ObjectMeta;
use kube::runtime::watcher::Event;

/// What of a child shows whether it is as it was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Later ones are larger; none where the API server counts in another way.
    version: Option<u64>,
    /// A digest of what changes when somebody edits it, and not when its status does.
    body: u64,
    /// Digests of each annotation's key and value: controllers keep some of their own, which count for nothing.
    annotations: Box<[(u64, u64)]>,
    /// Whether it is on its way out.
    pub deleting: bool,
}

impl Seen {
    /// Of an object with this metadata.
    pub fn of(meta: &ObjectMeta) -> Self {
        let mut body = DefaultHasher::new();
        meta.uid.hash(&mut body);
        match meta.generation {
            Some(generation) if generation > 0 => generation.hash(&mut body),
            _ => meta.resource_version.hash(&mut body),
        }
        meta.labels.hash(&mut body);
        for owner in meta.owner_references.iter().flatten() {
            (&owner.uid, owner.controller).hash(&mut body);
        }
        let annotations = meta.annotations.iter().flatten();
        Self {
            version: meta.resource_version.as_ref().and_then(|version| version.parse().ok()),
            body: body.finish(),
            annotations: annotations.map(|(key, value)| (digest(key), digest(value))).collect(),
            deleting: meta.deletion_timestamp.is_some(),
        }
    }

    /// A digest of it, as far as somebody cares who wants these annotations.
    pub fn look<'a>(&self, wanted: impl Iterator<Item = &'a String>) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.body.hash(&mut hasher);
        for key in wanted.map(digest) {
            let found = self.annotations.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| value).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether `self` is later than `other`: news may come after our own word of the same object.
    fn is_later(&self, other: &Self) -> bool {
        self.version.zip(other.version).is_some_and(|(ours, theirs)| ours > theirs)
    }
}

/// A digest that holds as long as the process.
pub fn digest(what: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Whose child an object is: the uid of its owner, or another word for it.
pub type Whose = fn(&ObjectMeta) -> Option<&str>;

/// The uid of the owner that controls it.
pub fn controller(meta: &ObjectMeta) -> Option<&str> {
    let mut owners = meta.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

/// Objects of a kind in a part of the scope, by `namespace/name`, each with a digest of whose it is.
type Objects = BTreeMap<String, (u64, Seen)>;

#[derive(Debug, Default)]
struct Told {
    /// Whether the first list was heard to its end.
    ready: bool,
    objects: Objects,
    /// A list that is being heard.
    coming: Objects,
}

/// What the watches have told.
#[derive(Debug, Default)]
pub struct Known(Mutex<HashMap<String, Told>>);

impl Known {
    fn told(&self) -> MutexGuard<'_, HashMap<String, Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A watch of a part of the scope told something.
    pub fn hear<K: Resource>(&self, kind: &str, part: Option<&str>, event: &Event<K>, whose: Whose) {
        let mut told = self.told();
        let told = told.entry(place(kind, part)).or_default();
        match event {
            Event::Init => told.coming.clear(),
            Event::InitApply(object) => put(&mut told.coming, object.meta(), whose),
            Event::InitDone => {
                told.objects = std::mem::take(&mut told.coming);
                told.ready = true;
            }
            Event::Apply(object) => put(&mut told.objects, object.meta(), whose),
            Event::Delete(object) => {
                let (key, gone) = (key(object.meta()), Seen::of(object.meta()));
                if told.objects.get(&key).is_some_and(|(_, seen)| !seen.is_later(&gone)) {
                    told.objects.remove(&key);
                }
            }
        }
    }

    /// An object is as our own write left it; its watch tells so later.
    pub fn wrote(&self, kind: &str, part: Option<&str>, meta: &ObjectMeta, whose: Whose) {
        if let Some(told) = self.told().get_mut(&place(kind, part)) {
            put(&mut told.objects, meta, whose);
        }
    }

    /// The objects of a namespace that are of `owner`, by name; `None` where no watch has told of all of them.
    pub fn of(
        &self,
        kind: &str,
        part: Option<&str>,
        namespace: &str,
        owner: &str,
    ) -> Option<BTreeMap<String, Seen>> {
        let told = self.told();
        let told = told.get(&place(kind, part)).filter(|told| told.ready)?;
        let (first, owner) = (format!("{namespace}/"), digest(owner));
        let here = told.objects.range(first.clone()..).take_while(|(key, _)| key.starts_with(&first));
        let own = here.filter(|(_, (whose, _))| *whose == owner);
        Some(own.map(|(key, (_, seen))| (key[first.len()..].to_owned(), seen.clone())).collect())
    }
}

fn place(kind: &str, part: Option<&str>) -> String {
    format!("{kind} {}", part.unwrap_or_default())
}

fn key(meta: &ObjectMeta) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&meta.namespace), part(&meta.name))
}

fn put(objects: &mut Objects, meta: &ObjectMeta, whose: Whose) {
    let (key, seen) = (key(meta), Seen::of(meta));
    if objects.get(&key).is_none_or(|(_, before)| !before.is_later(&seen)) {
        objects.insert(key, (digest(whose(meta).unwrap_or_default()), seen));
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    fn meta(value: serde_json::Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    fn map(name: &str, version: &str, owner: &str) -> ConfigMap {
        let owner = json!([{"apiVersion": "v1", "kind": "A", "name": "a", "uid": owner, "controller": true}]);
        let meta = meta(
            json!({"namespace": "nix", "name": name, "resourceVersion": version, "ownerReferences": owner}),
        );
        ConfigMap { metadata: meta, ..ConfigMap::default() }
    }

    fn names(known: &Known, owner: &str) -> Option<Vec<String>> {
        known.of("ConfigMap", None, "nix", owner).map(|found| found.into_keys().collect())
    }

    #[test]
    fn nothing_is_known_before_the_first_list_is_heard_to_its_end() {
        let known = Known::default();
        let hear = |event| known.hear::<ConfigMap>("ConfigMap", None, &event, controller);
        assert_eq!(names(&known, "a"), None);
        hear(Event::Init);
        hear(Event::InitApply(map("one", "1", "a")));
        assert_eq!(names(&known, "a"), None);
        hear(Event::InitApply(map("two", "2", "b")));
        hear(Event::InitDone);
        assert_eq!(names(&known, "a").unwrap(), ["one"]);
        assert_eq!(names(&known, "b").unwrap(), ["two"]);
        hear(Event::Apply(map("one", "3", "b")));
        assert_eq!(names(&known, "a").unwrap(), [""; 0], "another's by now");
        assert!(known.of("ConfigMap", None, "ni", "a").unwrap().is_empty(), "another namespace");
        hear(Event::Init);
        assert_eq!(
            names(&known, "b").unwrap(),
            ["one", "two"],
            "what is known stays until it is known better"
        );
        hear(Event::InitDone);
        assert_eq!(names(&known, "b").unwrap(), [""; 0]);
    }

    #[test]
    fn old_news_does_not_undo_our_own_word() {
        let known = Known::default();
        let hear = |event| known.hear::<ConfigMap>("ConfigMap", None, &event, controller);
        hear(Event::InitDone);
        known.wrote("ConfigMap", None, &map("one", "12", "a").metadata, controller);
        hear(Event::Delete(map("one", "9", "a")));
        assert_eq!(names(&known, "a").unwrap(), ["one"], "that was the one before");
        hear(Event::Apply(map("one", "9", "b")));
        assert_eq!(names(&known, "a").unwrap(), ["one"]);
        hear(Event::Delete(map("one", "13", "a")));
        assert_eq!(names(&known, "a").unwrap(), [""; 0]);
    }

    fn look(meta: &ObjectMeta) -> u64 {
        Seen::of(meta).look([&"ours".to_owned()].into_iter())
    }

    #[test]
    fn a_status_is_no_edit() {
        let before = meta(json!({"uid": "a", "generation": 2, "resourceVersion": "1"}));
        let status = meta(json!({"uid": "a", "generation": 2, "resourceVersion": "2"}));
        let edited = meta(json!({"uid": "a", "generation": 3, "resourceVersion": "3"}));
        let labelled = meta(json!({"uid": "a", "generation": 2, "labels": {"a": "b"}}));
        assert_eq!(look(&before), look(&status));
        assert_ne!(look(&before), look(&edited));
        assert_ne!(look(&before), look(&labelled));
        let with = |key: &str| meta(json!({"uid": "a", "generation": 2, "annotations": {key: "b"}}));
        assert_eq!(look(&before), look(&with("of-a-controller")));
        assert_ne!(look(&before), look(&with("ours")));
    }

    #[test]
    fn without_a_generation_any_change_counts() {
        let before = meta(json!({"uid": "a", "resourceVersion": "1"}));
        let after = meta(json!({"uid": "a", "resourceVersion": "2"}));
        assert_ne!(look(&before), look(&after));
    }
}
