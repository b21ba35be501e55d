//! Writes the children, in an order in which each finds what it needs, and deletes what is no longer wanted.

mod published;
mod secrets;
mod sets;
mod volumes;

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::apply::{ApplyError, Children};
use crate::context::Context;
use crate::crd::BinaryCache;
use crate::foreign::{Absence, Certificate, HttpRoute};
use crate::labels::{self, Names};
use crate::{rollouts, settled};

use super::build::Resources;
use super::validate::ValidCache;

pub use published::{Published, sweep};
pub use volumes::{Standing, Volume};

/// Keeps the number of pods between the operator's last word and the autoscaler's first.
const HAND_OVER: &str = "niks3-operator-scale";

/// What the API server made of the children.
#[derive(Debug)]
pub struct Applied {
    /// The server.
    pub deployment: Deployment,
    /// The way in by an Ingress, where there should be one.
    pub ingress: Option<Ingress>,
    /// The way in by the Gateway API, where there should be one and the cluster has it.
    pub http_route: Option<HttpRoute>,
    /// What cert-manager made of the certificate, where it should make one and the cluster has it.
    pub certificate: Option<Certificate>,
    /// Whether the cluster knows ServiceMonitors.
    pub monitoring: bool,
    /// What clients of other namespaces find, where any are wanted.
    pub published: Option<Published>,
    /// The volumes of embedded servers.
    pub volumes: Vec<Volume>,
    /// Whether the server's pods wait for other caches to be rolled out.
    pub waits: bool,
    /// The StatefulSet of an embedded server whose pod is being made anew.
    pub rolling_set: Option<String>,
    /// Why the server's pods are made anew, where they are from this look on.
    pub rolled: Option<String>,
    /// The names of the Secrets that were made.
    pub made: Vec<String>,
}

/// Writes the children of a cache, whose Deployment was as `before`.
pub async fn apply_all(
    resources: &Resources,
    cache: &ValidCache,
    before: Option<Deployment>,
    context: &Context,
) -> Result<Applied, ApplyError> {
    let client = &context.client;
    let made = secrets::apply(client, &resources.secrets, cache).await?;
    // First: no pod may run without them.
    let mut networks = children::<NetworkPolicy>(cache, context).await?;
    networks.apply(&resources.network_policies).await?;
    let mut accounts = children::<ServiceAccount>(cache, context).await?;
    accounts.apply(&resources.service_accounts).await?;
    let mut stateful_sets = children::<StatefulSet>(cache, context).await?;
    let key = settled::key::<BinaryCache>(&cache.namespace, &cache.name);
    let rolling = context.rollouts.has_sets(&key);
    let sets = Box::pin(sets::look(client, &stateful_sets, &resources.stateful_sets, rolling)).await?;
    let mut config_maps = children::<ConfigMap>(cache, context).await?;
    let waits = (sets.iter().any(sets::Set::changes_pods) || changes_pods(resources, before.as_ref()))
        && !context.rollouts.begin(&key);
    config_maps.apply(&resources.config_maps).await?;
    let mut services = children::<Service>(cache, context).await?;
    services.apply(&resources.services).await?;
    let (rolling_set, begins) = Box::pin(sets::apply(&mut stateful_sets, &sets, waits)).await?;
    if begins {
        context.rollouts.note_sets(&key);
    }
    let rolling_set = rolling_set.filter(|_| begins || rolling);
    // What was made a moment ago has no claims yet.
    let volumes = if before.is_some() { Box::pin(volumes::grow(client, cache)).await? } else { Vec::new() };
    hand_over(client, cache).await?;
    let mut deployments = children::<Deployment>(cache, context).await?;
    if waits {
        deployments.leave(&Names(&cache.name).server());
    }
    let wanted = if waits { &[][..] } else { &resources.deployments };
    let written = deployments.apply(wanted).await?.pop();
    let rolled = before.as_ref().zip(written.as_ref()).and_then(|(before, made)| rollouts::why(before, made));
    let deployment = written.or(before);
    let mut budgets = children::<PodDisruptionBudget>(cache, context).await?;
    budgets.apply(&resources.disruption_budgets).await?;
    let mut autoscalers = children::<HorizontalPodAutoscaler>(cache, context).await?;
    autoscalers.apply(&resources.autoscalers).await?;
    let mut ingresses = children::<Ingress>(cache, context).await?;
    ingresses.apply(&resources.ingresses).await?;
    let known = optional(&resources.certificates, &context.certificate_absence, cache, context).await?;
    let certificate =
        if known && !resources.certificates.is_empty() { Some(read(client, cache).await?) } else { None };
    // Before the route: a Gateway would speak plain HTTP to the server until then.
    optional(&resources.backend_tls_policies, &context.backend_tls_absence, cache, context).await?;
    let routes = optional(&resources.http_routes, &context.gateway_absence, cache, context).await?;
    let http_route =
        if routes && !resources.http_routes.is_empty() { Some(read(client, cache).await?) } else { None };
    let monitoring =
        optional(&resources.service_monitors, &context.monitoring_absence, cache, context).await?;
    let client_map = resources.config_maps.iter().find(|map| map.name_any() == Names(&cache.name).client());
    let published = match client_map {
        Some(map) => published::publish(cache, map, context).await?,
        None => None,
    };
    // At the end: what is no longer wanted may serve until its successor is there.
    ingresses.prune().await?;
    autoscalers.prune().await?;
    budgets.prune().await?;
    deployments.prune().await?;
    stateful_sets.prune().await?;
    services.prune().await?;
    let deployment = match deployment {
        Some(deployment) => deployment,
        None => read(client, cache).await?,
    };
    // Older configurations last as long as a pod may start from the template that names them.
    if !waits && rollouts::is_complete(&deployment) {
        config_maps.prune().await?;
    }
    accounts.prune().await?;
    networks.prune().await?;
    let ingress = match resources.ingresses.first() {
        Some(_) => Some(read(client, cache).await?),
        None => None,
    };
    Ok(Applied {
        deployment,
        ingress,
        http_route,
        certificate,
        monitoring,
        published,
        volumes,
        waits,
        rolling_set,
        rolled,
        made,
    })
}

/// The cache's children of a kind, as they are.
async fn children<'a, K>(cache: &ValidCache, context: &'a Context) -> Result<Children<'a, K>, ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + 'static,
{
    let all = labels::all_of(&cache.name);
    Children::list::<BinaryCache>(context, &cache.namespace, &all, &cache.owner.uid).await
}

/// Whether the server's pods would be made anew for another reason than a Secret.
fn changes_pods(resources: &Resources, before: Option<&Deployment>) -> bool {
    let (Some(before), [wanted]) = (before, resources.deployments.as_slice()) else { return false };
    rollouts::changes_pods(rollouts::template(before), rollouts::template(wanted))
}

/// A child of the server with its status.
async fn read<K>(client: &Client, cache: &ValidCache) -> Result<K, ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let (api, name) = (Api::<K>::namespaced(client.clone(), &cache.namespace), Names(&cache.name).server());
    api.get(&name).await.map_err(|source| ApplyError::new::<K>("read", &name, source))
}

/// Children of a kind that the cluster may lack; whether it has it. Nothing tells when it comes: who wants one looks
/// again.
async fn optional<K>(
    wanted: &[K],
    absence: &Absence,
    cache: &ValidCache,
    context: &Context,
) -> Result<bool, ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + 'static,
{
    if wanted.is_empty() && absence.is_known() {
        return Ok(false);
    }
    let found = children::<K>(cache, context).await;
    // Not `is_not_found`: without the API there is no Status in the answer either.
    let missing = found.as_ref().is_err_and(|error| error.status().is_some_and(|status| status.code == 404));
    absence.note(missing);
    if missing {
        return Ok(false);
    }
    let mut children = found?;
    children.apply(wanted).await?;
    children.prune().await?;
    Ok(true)
}

/// Where an autoscaler takes over, the number of pods must not fall back to one between our last word and its
/// first. So a field manager of its own keeps the number until the autoscaler writes another.
async fn hand_over(client: &Client, cache: &ValidCache) -> Result<(), ApplyError> {
    let (Some(scaling), Some(before)) = (&cache.autoscaling, cache.replicas_before) else { return Ok(()) };
    let name = Names(&cache.name).server();
    let kept = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": before.clamp(scaling.min_replicas, scaling.max_replicas)},
    });
    let api: Api<Deployment> = Api::namespaced(client.clone(), &cache.namespace);
    let how = PatchParams::apply(HAND_OVER).force();
    let patched = Box::pin(api.patch(&name, &how, &Patch::Apply(kept))).await;
    patched.map(|_| ()).map_err(|source| ApplyError::new::<Deployment>("scale", &name, source))
}
