//! What leads to which reconciliation.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::crd::{BinaryCache, GCPolicy};
use crate::labels::{MANAGED_BY, OPERATOR, POLICY_LABEL};
use crate::{cache, policy, unreadable};

/// Changes that come together lead to one reconciliation.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// An object as it is stored, readable or not: one that is not must not stop the watch.
type Stored<K> = DeserializeGuard<K>;

/// Reconciles caches until `stop`.
pub async fn caches(context: Arc<Context>, concurrency: u16, stop: CancellationToken) {
    let client = &context.client;
    let run = Controller::new(Api::<Stored<BinaryCache>>::all(client.clone()), watcher::Config::default())
        .with_config(config(concurrency))
        .owns(children::<Deployment>(client), managed())
        .owns(children::<StatefulSet>(client), managed())
        .owns(children::<Service>(client), managed())
        .owns(children::<ConfigMap>(client), managed())
        .owns(children::<ServiceAccount>(client), managed())
        .owns(children::<PodDisruptionBudget>(client), managed())
        .owns(children::<HorizontalPodAutoscaler>(client), managed())
        .owns(children::<NetworkPolicy>(client), managed())
        .owns(children::<Ingress>(client), managed())
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(
            reconcile_cache,
            |object, error, context| retry(&*object, error.reason(), &context),
            Arc::clone(&context),
        );
    drain(run).await;
}

/// Reconciles policies until `stop`.
pub async fn policies(context: Arc<Context>, concurrency: u16, stop: CancellationToken) {
    let client = &context.client;
    let controller =
        Controller::new(Api::<Stored<GCPolicy>>::all(client.clone()), watcher::Config::default());
    let (by_cache, by_policy) = (controller.store(), controller.store());
    let run = controller
        .with_config(config(concurrency))
        .owns(children::<CronJob>(client), managed())
        .owns(children::<ServiceAccount>(client), managed())
        .watches(Api::<Job>::all(client.clone()), watcher::Config::default().labels(POLICY_LABEL), |job| {
            let name = job.labels().get(POLICY_LABEL).cloned();
            name.map(|name| ObjectRef::new(&name).within(&job.namespace().unwrap_or_default()))
        })
        .watches(Api::<Stored<BinaryCache>>::all(client.clone()), watcher::Config::default(), move |cache| {
            let wanted = cache.name_any();
            matching(&by_cache, cache.namespace().as_deref(), move |policy| {
                policy.spec.cache_ref.as_ref().is_some_and(|cache| cache.name == wanted)
            })
        })
        // Of two policies for one cache, the younger waits for the older to go.
        .watches(Api::<Stored<GCPolicy>>::all(client.clone()), watcher::Config::default(), move |changed| {
            let (name, namespace) = (changed.name_any(), changed.namespace());
            let cache = changed.0.ok().and_then(|policy| policy.spec.cache_ref);
            matching(&by_policy, namespace.as_deref(), move |policy| {
                policy.spec.cache_ref == cache && policy.name_any() != name
            })
        })
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(
            reconcile_policy,
            |object, error, context| retry(&*object, error.reason(), &context),
            Arc::clone(&context),
        );
    drain(run).await;
}

fn config(concurrency: u16) -> Config {
    Config::default().debounce(DEBOUNCE).concurrency(concurrency)
}

/// Of children, only that they changed is of interest.
fn children<K>(client: &Client) -> Api<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    Api::all(client.clone())
}

/// What the operator did not make cannot be a child.
fn managed() -> watcher::Config {
    watcher::Config::default().labels(&format!("{MANAGED_BY}={OPERATOR}"))
}

fn matching(
    store: &Store<Stored<GCPolicy>>,
    namespace: Option<&str>,
    wanted: impl Fn(&GCPolicy) -> bool,
) -> Vec<ObjectRef<Stored<GCPolicy>>> {
    let state = store.state();
    let found = state.iter().filter(|stored| {
        stored.meta().namespace.as_deref() == namespace && stored.0.as_ref().is_ok_and(&wanted)
    });
    found.map(|policy| ObjectRef::from_obj(&**policy)).collect()
}

async fn reconcile_cache(
    object: Arc<Stored<BinaryCache>>,
    context: Arc<Context>,
) -> Result<Action, cache::Error> {
    let begun = Instant::now();
    let outcome = match &object.0 {
        Ok(cache) => Box::pin(cache::reconcile(cache, &context)).await,
        Err(bad) => unreadable::report::<BinaryCache>(bad, &context).await.map_err(cache::Error::from),
    };
    Ok(Action::requeue(finish(&*object, begun, outcome, cache::Error::reason, &context)?))
}

async fn reconcile_policy(
    object: Arc<Stored<GCPolicy>>,
    context: Arc<Context>,
) -> Result<Action, policy::Error> {
    let begun = Instant::now();
    let outcome = match &object.0 {
        Ok(policy) => Box::pin(policy::reconcile(policy, &context)).await,
        Err(bad) => unreadable::report::<GCPolicy>(bad, &context).await.map_err(policy::Error::from),
    };
    Ok(Action::requeue(finish(&*object, begun, outcome, policy::Error::reason, &context)?))
}

/// Counts a reconciliation.
fn finish<K: Resource<DynamicType = ()>, E>(
    object: &K,
    begun: Instant,
    outcome: Result<Duration, E>,
    reason: fn(&E) -> &'static str,
    context: &Context,
) -> Result<Duration, E> {
    let kind = kind::<K>();
    context.metrics.reconciled(kind, outcome.as_ref().err().map_or("ok", reason), begun.elapsed());
    if outcome.is_ok() {
        context.backoff.succeeded(&key(object));
    }
    outcome
}

fn retry<K: Resource<DynamicType = ()>>(object: &K, reason: &'static str, context: &Context) -> Action {
    let wait = context.backoff.failed(&key(object));
    tracing::debug!(object = key(object), reason, ?wait, "trying again");
    Action::requeue(wait)
}

fn kind<K: Resource<DynamicType = ()>>() -> &'static str {
    if K::kind(&()) == "GCPolicy" { "GCPolicy" } else { "BinaryCache" }
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{} {}/{}", kind::<K>(), object.namespace().unwrap_or_default(), object.name_any())
}

/// Runs a controller to its end and logs what went wrong on the way.
async fn drain<T, E: std::error::Error>(run: impl Stream<Item = Result<T, E>>) {
    run.for_each(async |outcome| {
        if let Err(error) = outcome {
            tracing::warn!(error = chain(&error), "a reconciliation failed");
        }
    })
    .await;
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}
