//! Server-side apply and pruning, for both reconcilers.

use std::collections::BTreeSet;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

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

    /// The API server's answer, where it gave one.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match &self.source {
            kube::Error::Api(status) => Some(status),
            _ => None,
        }
    }
}

/// Makes `object` what it should be and gives back what the API server made of it.
pub async fn apply<K>(client: &Client, object: &K) -> Result<K, ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let name = object.name_any();
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let how = PatchParams::apply(OPERATOR).force();
    api.patch(&name, &how, &Patch::Apply(object))
        .await
        .map_err(|source| ApplyError::new::<K>("apply", &name, source))
}

/// Deletes the children of the owner with this uid that are not among `keep`.
pub async fn prune<K>(
    client: &Client,
    namespace: &str,
    selector: &str,
    uid: &str,
    keep: &BTreeSet<String>,
) -> Result<(), ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + 'static,
{
    let metadata: Api<PartialObjectMeta<K>> = Api::namespaced(client.clone(), namespace);
    let list = ListParams::default().labels(selector);
    let found =
        metadata.list(&list).await.map_err(|source| ApplyError::new::<K>("list", selector, source))?;
    for object in found {
        let name = object.name_any();
        if keep.contains(&name)
            || !is_child_of(&object.metadata, uid)
            || object.metadata.deletion_timestamp.is_some()
        {
            continue;
        }
        tracing::info!(kind = %K::kind(&()), namespace, name, "deleting a child that is no longer wanted");
        match metadata.delete(&name, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(source) => return Err(ApplyError::new::<K>("delete", &name, source)),
        }
    }
    Ok(())
}
