//! Server-side apply and pruning, for both reconcilers. What is as it was left is not written again: a resync of
//! many caches only reads.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::crd::conditions::Reason;
use crate::labels::{OPERATOR, is_child_of};

/// A child that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("could not {act} {kind} {name}")]
pub struct ApplyError {
    /// What was tried.
    pub act: &'static str,
    /// The child's kind.
    pub kind: String,
    /// The child's name.
    pub name: String,
    /// Why not.
    pub source: kube::Error,
}

impl ApplyError {
    /// About `object`.
    pub fn new<K: Resource<DynamicType = ()>>(act: &'static str, name: &str, source: kube::Error) -> Self {
        Self { act, kind: K::kind(&()).into_owned(), name: name.to_owned(), source }
    }

    /// One sentence with the API server's own words, for a condition.
    pub fn sentence(&self) -> String {
        match &self.source {
            kube::Error::Api(status) => format!("{self}: {}", status.message),
            other => format!("{self}: {other}"),
        }
    }

    /// Why, for a condition. Quotas and admission have no code of their own: their words tell them.
    pub fn reason(&self) -> Reason {
        self.status()
            .map_or(Reason::ApplyFailed, |status| refusal(&status.message).unwrap_or(Reason::ApplyFailed))
    }

    /// The API server's answer, where it gave one.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match &self.source {
            kube::Error::Api(status) => Some(status),
            _ => None,
        }
    }
}

/// What in the cluster refuses an object, by the words in which the API server says so.
pub fn refusal(message: &str) -> Option<Reason> {
    if message.contains("exceeded quota") {
        return Some(Reason::QuotaExceeded);
    }
    let refused = ["admission webhook", "ValidatingAdmissionPolicy", "violates PodSecurity"];
    refused.iter().any(|words| message.contains(words)).then_some(Reason::AdmissionRefused)
}

/// What was written last, by kind, namespace and name.
#[derive(Debug, Default)]
pub struct Written(Mutex<HashMap<String, Last>>);

/// Digests of what was wanted, of what the object looked like afterwards, and of the version it had.
#[derive(Debug)]
struct Last {
    wanted: u64,
    found: u64,
    version: u64,
}

impl Written {
    fn is(&self, key: &str, wanted: u64, found: u64) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(key).is_some_and(|last| last.wanted == wanted && last.found == found)
    }

    fn put(&self, key: String, wanted: u64, found: u64, meta: &ObjectMeta) {
        let last = Last { wanted, found, version: hash(&meta.resource_version) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, last);
    }

    /// Whether a child is as the operator wrote it: news of that is none.
    pub fn is_echo<K: Resource<DynamicType = ()>>(&self, meta: &ObjectMeta) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(&key_of::<K>(meta)).is_some_and(|last| last.version == hash(&meta.resource_version))
    }

    fn remove(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// The children of one kind: those that are there, and which of them nobody wants.
pub struct Children<'a, K> {
    context: &'a Context,
    api: Api<K>,
    found: BTreeMap<String, PartialObjectMeta<K>>,
}

impl<'a, K> Children<'a, K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + 'static,
{
    /// The children of the owner with this uid.
    pub async fn list(
        context: &'a Context,
        namespace: &str,
        selector: &str,
        uid: &str,
    ) -> Result<Self, ApplyError> {
        let metadata: Api<PartialObjectMeta<K>> = Api::namespaced(context.client.clone(), namespace);
        let list = ListParams::default().labels(selector);
        let found =
            metadata.list(&list).await.map_err(|source| ApplyError::new::<K>("list", selector, source))?;
        let ours = found.items.into_iter().filter(|object| is_child_of(&object.metadata, uid));
        Ok(Self {
            context,
            api: Api::namespaced(context.client.clone(), namespace),
            found: ours.map(|object| (object.name_any(), object)).collect(),
        })
    }

    /// Makes each of `wanted` what it should be. Nothing is deleted.
    pub async fn apply(&mut self, wanted: &[K]) -> Result<(), ApplyError> {
        for object in wanted {
            let (name, digest) = (object.name_any(), digest(object));
            let (key, found) = (key(object), self.found.remove(&name));
            if found.is_some_and(|found| self.context.written.is(&key, digest, look(object, &found.metadata)))
            {
                continue;
            }
            let how = PatchParams::apply(OPERATOR).force();
            let made = Box::pin(self.api.patch(&name, &how, &Patch::Apply(object)))
                .await
                .map_err(|source| ApplyError::new::<K>("apply", &name, source))?;
            self.context.written.put(key, digest, look(object, made.meta()), made.meta());
        }
        Ok(())
    }

    /// Deletes the children that `apply` was not asked for.
    pub async fn prune(self) -> Result<(), ApplyError> {
        let unwanted = self.found.values().filter(|object| object.metadata.deletion_timestamp.is_none());
        for object in unwanted {
            let name = object.name_any();
            tracing::info!(kind = %K::kind(&()), name, "deleting a child that is no longer wanted");
            self.context.written.remove(&key_of::<K>(&object.metadata));
            match self.api.delete(&name, &DeleteParams::background()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(source) => return Err(ApplyError::new::<K>("delete", &name, source)),
            }
        }
        Ok(())
    }
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> String {
    key_of::<K>(object.meta())
}

fn key_of<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}/{}", K::kind(&()), part(&meta.namespace), part(&meta.name))
}

fn digest(object: &impl Serialize) -> u64 {
    hash(&serde_json::to_string(object).unwrap_or_default())
}

fn hash(what: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// What of an object changes when somebody edits it, and not when its status does. Controllers keep annotations
/// of their own on it, so only those that are wanted count.
fn look<K: Resource<DynamicType = ()>>(wanted: &K, meta: &ObjectMeta) -> u64 {
    let mut hasher = DefaultHasher::new();
    meta.uid.hash(&mut hasher);
    match meta.generation {
        Some(generation) if generation > 0 => generation.hash(&mut hasher),
        _ => meta.resource_version.hash(&mut hasher),
    }
    meta.labels.hash(&mut hasher);
    for key in wanted.annotations().keys() {
        meta.annotations.as_ref().and_then(|annotations| annotations.get(key)).hash(&mut hasher);
    }
    for owner in meta.owner_references.iter().flatten() {
        (&owner.uid, owner.controller).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn meta(value: serde_json::Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    fn wanted() -> ConfigMap {
        ConfigMap {
            metadata: meta(serde_json::json!({"annotations": {"ours": "a"}})),
            ..ConfigMap::default()
        }
    }

    #[test]
    fn a_status_is_no_edit() {
        let wanted = wanted();
        let before = meta(serde_json::json!({"uid": "a", "generation": 2, "resourceVersion": "1"}));
        let status = meta(serde_json::json!({"uid": "a", "generation": 2, "resourceVersion": "2"}));
        let edited = meta(serde_json::json!({"uid": "a", "generation": 3, "resourceVersion": "3"}));
        let labelled = meta(serde_json::json!({"uid": "a", "generation": 2, "labels": {"a": "b"}}));
        assert_eq!(look(&wanted, &before), look(&wanted, &status));
        assert_ne!(look(&wanted, &before), look(&wanted, &edited));
        assert_ne!(look(&wanted, &before), look(&wanted, &labelled));
        let with =
            |key: &str| meta(serde_json::json!({"uid": "a", "generation": 2, "annotations": {key: "b"}}));
        assert_eq!(look(&wanted, &before), look(&wanted, &with("of-a-controller")));
        assert_ne!(look(&wanted, &before), look(&wanted, &with("ours")));
    }

    #[test]
    fn an_echo_has_the_version_that_was_written() {
        let written = Written::default();
        let version = |version: &str| meta(serde_json::json!({"name": "a", "resourceVersion": version}));
        assert!(!written.is_echo::<ConfigMap>(&version("1")));
        written.put(key_of::<ConfigMap>(&version("1")), 1, 2, &version("1"));
        assert!(written.is_echo::<ConfigMap>(&version("1")));
        assert!(!written.is_echo::<ConfigMap>(&version("2")), "somebody else wrote that");
        written.remove(&key_of::<ConfigMap>(&version("1")));
        assert!(!written.is_echo::<ConfigMap>(&version("1")));
    }

    #[test]
    fn without_a_generation_any_change_counts() {
        let wanted = wanted();
        let before = meta(serde_json::json!({"uid": "a", "resourceVersion": "1"}));
        let after = meta(serde_json::json!({"uid": "a", "resourceVersion": "2"}));
        assert_ne!(look(&wanted, &before), look(&wanted, &after));
    }
}
