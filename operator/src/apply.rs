//! Server-side apply and pruning, for both reconcilers. What is as it was left is not written again: a resync of
//! many caches only reads.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::crd::conditions::Reason;
use crate::known::{Seen, controller, digest};
use crate::labels::{OPERATOR, is_child_of};
use crate::{ownership, watches};

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
        let Some(status) = self.status() else { return Reason::ApplyFailed };
        if status.reason == Reason::NameTaken.as_str() {
            return Reason::NameTaken;
        }
        refusal(&status.message).unwrap_or(Reason::ApplyFailed)
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
        let last = Last { wanted, found, version: digest(&meta.resource_version) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, last);
    }

    /// Whether a child is as the operator wrote it: news of that is none.
    pub fn is_echo<K: Resource<DynamicType = ()>>(&self, meta: &ObjectMeta) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(&key_of::<K>(meta)).is_some_and(|last| last.version == digest(&meta.resource_version))
    }

    fn remove(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// The children of one kind: those that are there, and which of them nobody wants.
pub struct Children<'a, K> {
    context: &'a Context,
    namespace: String,
    kin: String,
    api: Api<K>,
    found: BTreeMap<String, Seen>,
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
    /// The children of the owner of the kind `P` with this uid: what the watches told, or the API server where they have not yet.
    pub async fn list<P: Resource<DynamicType = ()>>(
        context: &'a Context,
        namespace: &str,
        selector: &str,
        uid: &str,
    ) -> Result<Self, ApplyError> {
        let (part, kin) = (context.scope.part_of(namespace), watches::kin::<P, K>());
        let found = match context.known.of(&kin, part, namespace, uid) {
            Some(known) => known,
            None => read::<K>(context, namespace, selector, uid).await?,
        };
        let api = Api::namespaced(context.client.clone(), namespace);
        Ok(Self { context, namespace: namespace.to_owned(), kin, api, found })
    }

    /// Makes each of `wanted` what it should be. Nothing is deleted. Gives back those that were written.
    pub async fn apply(&mut self, wanted: &[K]) -> Result<Vec<K>, ApplyError> {
        let mut written = Vec::new();
        for object in wanted {
            if self.is_as_left(object) {
                self.leave(&object.name_any());
            } else {
                written.push(self.apply_instead(object, object).await?);
            }
        }
        Ok(written)
    }

    /// Whether it is what it should be, as far as is known.
    pub fn is_as_left(&self, object: &K) -> bool {
        let is =
            |seen| self.context.written.is(&key_of::<K>(object.meta()), of_body(object), look(object, seen));
        self.found.get(&object.name_any()).is_some_and(is)
    }

    /// Writes what the API server takes in the place of what is wanted, and from then on takes the one for the other.
    pub async fn apply_instead(&mut self, object: &K, wanted: &K) -> Result<K, ApplyError> {
        let known = self.found.remove(&wanted.name_any()).is_some();
        self.write(object, key_of::<K>(wanted.meta()), of_body(wanted), known).await
    }

    async fn write(&self, object: &K, key: String, wanted: u64, known: bool) -> Result<K, ApplyError> {
        if !known {
            Box::pin(ownership::check(&self.context.client, &self.namespace, object)).await?;
        }
        let (name, how) = (object.name_any(), PatchParams::apply(OPERATOR).force());
        let made = Box::pin(self.api.patch(&name, &how, &Patch::Apply(object)))
            .await
            .map_err(|source| ApplyError::new::<K>("apply", &name, source))?;
        self.context.written.put(key, wanted, look(object, &Seen::of(made.meta())), made.meta());
        let part = self.context.scope.part_of(&self.namespace);
        self.context.known.wrote(&self.kin, part, made.meta(), controller);
        Ok(made)
    }

    /// Leaves one as it is, whatever is wanted.
    pub fn leave(&mut self, name: &str) {
        self.found.remove(name);
    }

    /// Deletes the children that `apply` was not asked for.
    pub async fn prune(self) -> Result<(), ApplyError> {
        for (name, _) in self.found.into_iter().filter(|(_, seen)| !seen.deleting) {
            tracing::info!(kind = %K::kind(&()), name, "deleting a child that is no longer wanted");
            self.context.written.remove(&key::<K>(&self.namespace, &name));
            match self.api.delete(&name, &DeleteParams::background()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(source) => return Err(ApplyError::new::<K>("delete", &name, source)),
            }
        }
        Ok(())
    }
}

/// Asks the API server for the children of a kind.
async fn read<K>(
    context: &Context,
    namespace: &str,
    selector: &str,
    uid: &str,
) -> Result<BTreeMap<String, Seen>, ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + 'static,
{
    let metadata: Api<PartialObjectMeta<K>> = Api::namespaced(context.client.clone(), namespace);
    let list = metadata.list(&ListParams::default().labels(selector)).await;
    let list = list.map_err(|source| ApplyError::new::<K>("list", selector, source))?;
    let ours = list.items.iter().filter(|object| is_child_of(&object.metadata, uid));
    Ok(ours.map(|object| (object.name_any(), Seen::of(&object.metadata))).collect())
}

fn key<K: Resource<DynamicType = ()>>(namespace: &str, name: &str) -> String {
    format!("{}/{namespace}/{name}", K::kind(&()))
}

fn key_of<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> String {
    key::<K>(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

fn of_body(object: &impl Serialize) -> u64 {
    digest(&serde_json::to_string(object).unwrap_or_default())
}

fn look<K: Resource<DynamicType = ()>>(wanted: &K, seen: &Seen) -> u64 {
    seen.look(wanted.annotations().keys())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn meta(value: serde_json::Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
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
}
