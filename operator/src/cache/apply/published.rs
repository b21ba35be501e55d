//! What clients need, in namespaces that the cache does not own: found again by its labels, for an owner reference does
//! not reach that far. What a deleted cache leaves behind is swept up.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{PartialObjectMeta, Selector};
use kube::{Api, ResourceExt as _};

use crate::apply::ApplyError;
use crate::cache::validate::ValidCache;
use crate::context::Context;
use crate::crd::BinaryCache;
use crate::crd::conditions::Reason;
use crate::labels::{CACHE_NAME, CACHE_NAMESPACE, MANAGED_BY, OPERATOR, published, published_labels};
use crate::scope::api;

/// What became of it.
#[derive(Debug, Default)]
pub struct Published {
    /// How many namespaces have it.
    pub namespaces: usize,
    /// Why others do not.
    pub refused: Vec<(Reason, String)>,
}

/// Makes the ConfigMaps of other namespaces what they should be. Nothing where none is wanted, or was.
pub(super) async fn publish(
    cache: &ValidCache,
    client: &ConfigMap,
    context: &Context,
) -> Result<Option<Published>, ApplyError> {
    if cache.clients.is_none() && !cache.published_before {
        return Ok(None);
    }
    let mut outcome = Published::default();
    let wanted = match wanted(cache, context).await {
        Ok(wanted) => wanted,
        // Nothing is taken away on a guess.
        Err(refused) => {
            outcome.refused.push(refused);
            return Ok(Some(outcome));
        }
    };
    let labels = published_labels(&cache.name, &cache.namespace);
    let mut found = BTreeMap::new();
    for copy in copies(context, &selector(&labels)).await? {
        found.insert(copy.namespace().unwrap_or_default(), copy);
    }
    for namespace in wanted {
        let copy = ConfigMap {
            metadata: ObjectMeta {
                name: Some(published(&cache.name, &cache.namespace)),
                namespace: Some(namespace.clone()),
                labels: Some(labels.clone()),
                ..ObjectMeta::default()
            },
            data: client.data.clone(),
            ..ConfigMap::default()
        };
        match write(context, &copy, found.remove(&namespace)).await {
            Ok(()) => outcome.namespaces += 1,
            Err(error) => {
                outcome
                    .refused
                    .push((error.reason(), format!("namespace {namespace}: {}", error.sentence())));
            }
        }
    }
    for copy in found.into_values() {
        delete(context, &copy).await?;
    }
    Ok(cache.clients.is_some().then_some(outcome))
}

/// The namespaces that the spec selects, without the cache's own.
async fn wanted(cache: &ValidCache, context: &Context) -> Result<BTreeSet<String>, (Reason, String)> {
    let Some(selector) = &cache.clients else { return Ok(BTreeSet::new()) };
    if !context.scope.is_whole_cluster() {
        let why = "clients.namespaceSelector: this operator looks after some namespaces only, and may not list them all";
        return Err((Reason::InvalidSpec, why.to_owned()));
    }
    let selector: Selector = selector
        .clone()
        .try_into()
        .map_err(|error| (Reason::InvalidSpec, format!("clients.namespaceSelector: {error}")))?;
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(context.client.clone());
    let list = api.list(&ListParams::default().labels_from(&selector)).await.map_err(|source| {
        let error = ApplyError::new::<Namespace>("list", "of clients.namespaceSelector", source);
        (error.reason(), error.sentence())
    })?;
    let stays = list.items.into_iter().filter(|namespace| namespace.metadata.deletion_timestamp.is_none());
    Ok(stays.map(|namespace| namespace.name_any()).filter(|name| *name != cache.namespace).collect())
}

fn selector(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

async fn copies(context: &Context, selector: &str) -> Result<Vec<ConfigMap>, ApplyError> {
    let mut found = Vec::new();
    for part in context.scope.parts() {
        let list = api::<ConfigMap>(&context.client, part.as_deref());
        let list = list.list(&ListParams::default().labels(selector)).await;
        found.extend(list.map_err(|source| ApplyError::new::<ConfigMap>("list", selector, source))?);
    }
    Ok(found)
}

/// `create` where there is none: a ConfigMap of this name that somebody else made is not ours to write.
async fn write(context: &Context, copy: &ConfigMap, found: Option<ConfigMap>) -> Result<(), ApplyError> {
    let (name, namespace) = (copy.name_any(), copy.namespace().unwrap_or_default());
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &namespace);
    let written = match found {
        Some(found) if found.data == copy.data => return Ok(()),
        Some(_) => {
            let how = PatchParams::apply(OPERATOR).force();
            Box::pin(api.patch(&name, &how, &Patch::Apply(copy))).await
        }
        None => {
            let how = PostParams { field_manager: Some(OPERATOR.to_owned()), ..PostParams::default() };
            api.create(&how, copy).await
        }
    };
    written.map(|_| ()).map_err(|source| ApplyError::new::<ConfigMap>("write", &name, source))
}

async fn delete(context: &Context, copy: &ConfigMap) -> Result<(), ApplyError> {
    let (name, namespace) = (copy.name_any(), copy.namespace().unwrap_or_default());
    tracing::info!(namespace, name, "deleting a ConfigMap of clients that is no longer wanted");
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &namespace);
    match api.delete(&name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(ApplyError::new::<ConfigMap>("delete", &name, source)),
    }
}

/// Deletes what deleted caches have left in other namespaces.
pub async fn sweep(context: &Context) -> Result<(), ApplyError> {
    let ours = format!("{MANAGED_BY}={OPERATOR},{CACHE_NAMESPACE},{CACHE_NAME}");
    let mut known = BTreeMap::new();
    for copy in copies(context, &ours).await? {
        let label = |key: &str| copy.labels().get(key).cloned().unwrap_or_default();
        let (namespace, name) = (label(CACHE_NAMESPACE), label(CACHE_NAME));
        let place = (namespace.clone(), name.clone());
        let there = if let Some(there) = known.get(&place) {
            *there
        } else {
            let api: Api<BinaryCache> = Api::namespaced(context.client.clone(), &namespace);
            let found = api.get_metadata_opt(&name).await;
            let found = found.map_err(|source| ApplyError::new::<BinaryCache>("read", &name, source))?;
            known.insert(place, found.is_some());
            found.is_some()
        };
        if !there {
            delete(context, &copy).await?;
        }
    }
    Ok(())
}
