//! Writes the children, in an order in which each finds what it needs, and deletes what is no longer wanted.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use crate::apply::{ApplyError, Children};
use crate::context::Context;
use crate::labels::{self, Names};

use super::build::Resources;
use super::validate::ValidCache;

/// What the API server made of the children.
#[derive(Debug)]
pub struct Applied {
    /// The server.
    pub deployment: Deployment,
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
    let (namespace, uid, all) = (&cache.namespace, &cache.owner.uid, &labels::all_of(&cache.name));
    let mut accounts: Children<'_, ServiceAccount> = Children::list(context, namespace, all, uid).await?;
    accounts.apply(&resources.service_accounts).await?;
    let mut config_maps: Children<'_, ConfigMap> = Children::list(context, namespace, all, uid).await?;
    config_maps.apply(&resources.config_maps).await?;
    let mut services: Children<'_, Service> = Children::list(context, namespace, all, uid).await?;
    services.apply(&resources.services).await?;
    let mut stateful_sets: Children<'_, StatefulSet> = Children::list(context, namespace, all, uid).await?;
    stateful_sets.apply(&resources.stateful_sets).await?;
    let mut deployments: Children<'_, Deployment> = Children::list(context, namespace, all, uid).await?;
    deployments.apply(&resources.deployments).await?;
    let mut budgets: Children<'_, PodDisruptionBudget> = Children::list(context, namespace, all, uid).await?;
    budgets.apply(&resources.disruption_budgets).await?;
    // At the end: what is no longer wanted may serve until its successor is there.
    budgets.prune().await?;
    deployments.prune().await?;
    stateful_sets.prune().await?;
    services.prune().await?;
    config_maps.prune().await?;
    accounts.prune().await?;
    Ok(Applied { deployment: deployment(client, cache).await?, made })
}

/// The server's Deployment with its status.
async fn deployment(client: &Client, cache: &ValidCache) -> Result<Deployment, ApplyError> {
    let (api, name) = (Api::namespaced(client.clone(), &cache.namespace), Names(&cache.name).server());
    api.get(&name).await.map_err(|source| ApplyError::new::<Deployment>("read", &name, source))
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
