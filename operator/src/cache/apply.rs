//! Writes the children, in an order in which each finds what it needs, and deletes what is no longer wanted.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use crate::apply::{ApplyError, apply, prune};
use crate::context::Context;
use crate::labels;

use super::build::Resources;
use super::validate::ValidCache;

/// What the API server made of the children.
#[derive(Debug)]
pub struct Applied {
    /// The server.
    pub deployment: Deployment,
    /// The embedded servers.
    pub stateful_sets: Vec<StatefulSet>,
    /// The names of the Secrets that were made.
    pub made: Vec<String>,
}

/// Writes the children of a cache.
pub async fn apply_all(
    resources: &Resources,
    cache: &ValidCache,
    context: &Context,
) -> Result<Applied, ApplyError> {
    let client = &context.client;
    let mut made = Vec::new();
    for secret in &resources.secrets {
        create(client, secret).await?;
        made.push(secret.name_any());
    }
    align_owners(client, cache).await?;
    for account in &resources.service_accounts {
        apply(client, account).await?;
    }
    for config_map in &resources.config_maps {
        apply(client, config_map).await?;
    }
    for service in &resources.services {
        apply(client, service).await?;
    }
    let mut stateful_sets = Vec::new();
    for stateful_set in &resources.stateful_sets {
        stateful_sets.push(apply(client, stateful_set).await?);
    }
    let mut deployment = Deployment::default();
    for wanted in &resources.deployments {
        deployment = apply(client, wanted).await?;
    }
    for budget in &resources.disruption_budgets {
        apply(client, budget).await?;
    }
    prune_all(resources, cache, client).await?;
    Ok(Applied { deployment, stateful_sets, made })
}

/// `create` alone: where another operator was faster, its Secret is the one that counts, and what was built
/// from ours is thrown away with this error.
async fn create(client: &Client, secret: &Secret) -> Result<(), ApplyError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &secret.namespace().unwrap_or_default());
    let name = secret.name_any();
    api.create(&PostParams::default(), secret)
        .await
        .map(|_| tracing::info!(secret = name, "made a Secret"))
        .map_err(|source| ApplyError::new::<Secret>("create", &name, source))
}

/// Whether a signing key goes with its cache can be changed at any time; the key itself cannot.
async fn align_owners(client: &Client, cache: &ValidCache) -> Result<(), ApplyError> {
    let (Some(generated), Some((version, owners))) = (&cache.signing.generated, &cache.signing.owners) else {
        return Ok(());
    };
    let wanted = if cache.signing.retain { Vec::new() } else { vec![cache.owner.clone()] };
    if *owners == wanted {
        return Ok(());
    }
    let patch = json!({"metadata": {"resourceVersion": version, "ownerReferences": wanted}});
    let api: Api<Secret> = Api::namespaced(client.clone(), &cache.namespace);
    api.patch_metadata(&generated.name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map(|_| ())
        .map_err(|source| ApplyError::new::<Secret>("patch", &generated.name, source))
}

async fn prune_all(resources: &Resources, cache: &ValidCache, client: &Client) -> Result<(), ApplyError> {
    fn names<K: kube::Resource>(wanted: &[K]) -> BTreeSet<String> {
        wanted.iter().map(kube::ResourceExt::name_any).collect()
    }
    let (namespace, uid, all) = (&cache.namespace, &cache.owner.uid, &labels::all_of(&cache.name));
    prune::<PodDisruptionBudget>(client, namespace, all, uid, &names(&resources.disruption_budgets)).await?;
    prune::<Deployment>(client, namespace, all, uid, &names(&resources.deployments)).await?;
    prune::<StatefulSet>(client, namespace, all, uid, &names(&resources.stateful_sets)).await?;
    prune::<Service>(client, namespace, all, uid, &names(&resources.services)).await?;
    prune::<ConfigMap>(client, namespace, all, uid, &names(&resources.config_maps)).await?;
    prune::<ServiceAccount>(client, namespace, all, uid, &names(&resources.service_accounts)).await
}
