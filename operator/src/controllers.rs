//! What leads to which reconciliation.

mod news;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::join_all;
use futures::{Stream, StreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{Controller, WatchStreamExt as _, watcher};
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::crd::{BinaryCache, GCPolicy};
use crate::labels::{MANAGED_BY, OPERATOR, POLICY_LABEL};
use crate::telemetry::chain;
use crate::watches::{self, Stored};
use crate::{cache, known, policy, scope, settled, unreadable};

use self::news::{CacheNews, Concerns, PolicyNews};

/// Changes that come together lead to one reconciliation.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Reconciles everything in the operator's scope until `stop`.
pub async fn run(context: &Arc<Context>, concurrency: u16, stop: &CancellationToken) {
    let parts = context.scope.parts();
    join_all(parts.iter().map(async |part| {
        let (tell, told) = mpsc::unbounded();
        tokio::join!(
            caches(context, part.as_deref(), concurrency, told, stop),
            policies(context, part.as_deref(), concurrency, tell, stop),
        )
    }))
    .await;
}

/// Caches that policies tell something new of.
type Collected = ObjectRef<Stored<BinaryCache>>;

async fn caches(
    context: &Arc<Context>,
    part: Option<&str>,
    concurrency: u16,
    collected: mpsc::UnboundedReceiver<Collected>,
    stop: &CancellationToken,
) {
    let (store, told) = watches::caches(context, part);
    let mut controller = Controller::for_stream(told.applied_objects(), store)
        .with_config(config(concurrency))
        .reconcile_on(collected);
    controller = owns::<Deployment, _>(controller, context, part);
    controller = owns::<StatefulSet, _>(controller, context, part);
    controller = owns::<Service, _>(controller, context, part);
    controller = owns::<ConfigMap, _>(controller, context, part);
    controller = owns::<ServiceAccount, _>(controller, context, part);
    controller = owns::<PodDisruptionBudget, _>(controller, context, part);
    controller = owns::<HorizontalPodAutoscaler, _>(controller, context, part);
    controller = owns::<NetworkPolicy, _>(controller, context, part);
    controller = owns::<Ingress, _>(controller, context, part);
    let run = controller.graceful_shutdown_on(stop.clone().cancelled_owned()).run(
        reconcile_cache,
        |object, error, context| retry::<BinaryCache>(&object, error.reason(), &context),
        Arc::clone(context),
    );
    drain(run).await;
}

async fn policies(
    context: &Arc<Context>,
    part: Option<&str>,
    concurrency: u16,
    collected: mpsc::UnboundedSender<Collected>,
    stop: &CancellationToken,
) {
    let (store, told) = watches::policies(context, part);
    let (rivals, rivals_told) = mpsc::unbounded();
    // Of two policies for one cache, the younger waits for the older to go; and the cache says what was collected.
    let told = told.inspect({
        let (context, store, part) = (Arc::clone(context), store.clone(), part.map(str::to_owned));
        let news = PolicyNews::default();
        move |told| {
            let Ok(event) = told else { return };
            let all = if matches!(event, Event::InitDone) { store.state() } else { Vec::new() };
            let cache = |namespace: &str, name: &str| context.stores.cache(part.as_deref(), namespace, name);
            for concerns in news.of(event, &all, cache) {
                // Nobody hears it any more where the controller has ended.
                for rival in rivals_of(&context, &store, &concerns) {
                    let _ = rivals.unbounded_send(rival);
                }
                for cache in &concerns.caches {
                    let touched = context.settled.touch::<BinaryCache, _>(&concerns.namespace, cache);
                    let _ = collected.unbounded_send(touched);
                }
            }
        }
    });
    let controller = Controller::for_stream(told.applied_objects(), store.clone())
        .with_config(config(concurrency))
        .reconcile_on(rivals_told);
    let (of_job, of_cache) = (Arc::clone(context), Arc::clone(context));
    let news = CacheNews::default();
    let jobs = watches::children::<GCPolicy, Job>(context, part, POLICY_LABEL, policy::observe::policy_of);
    let caches = scope::api::<PartialObjectMeta<BinaryCache>>(&context.client, part);
    let caches = watches::watch(caches, watcher::Config::default());
    let controller = owns::<CronJob, _>(controller, context, part);
    let run = owns::<ServiceAccount, _>(controller, context, part)
        .watches_stream(jobs, move |job| {
            let (namespace, name) = (job.namespace().unwrap_or_default(), job.labels().get(POLICY_LABEL));
            name.map(|name| of_job.settled.touch::<GCPolicy, _>(&namespace, name))
        })
        .watches_stream(caches.touched_objects(), move |cache| {
            let (meta, wanted) = (cache.meta(), cache.name_any());
            let namespace = meta.namespace.clone().unwrap_or_default();
            // What the cache was labelled with before is not known.
            let of_it = |policy: &GCPolicy| {
                policy.spec.cache_selector.is_some()
                    || policy.spec.cache_ref.as_ref().is_some_and(|cache| cache.name == wanted)
            };
            if news.is_in(meta) { matching(&of_cache, &store, &namespace, of_it) } else { Vec::new() }
        })
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(
            reconcile_policy,
            |object, error, context| retry::<GCPolicy>(&object, error.reason(), &context),
            Arc::clone(context),
        );
    drain(run).await;
}

/// The policies that may have, or lack, a cache now because of another one.
fn rivals_of(
    context: &Context,
    store: &Store<Stored<GCPolicy>>,
    concerns: &Concerns,
) -> Vec<ObjectRef<Stored<GCPolicy>>> {
    if !concerns.rivals {
        return Vec::new();
    }
    matching(context, store, &concerns.namespace, |policy| {
        let named = policy.spec.cache_ref.as_ref().is_some_and(|cache| concerns.named.contains(&cache.name));
        (named || policy.spec.cache_selector.is_some()) && policy.name_any() != concerns.policy
    })
}

/// Children of the kind `K` lead to their owner, unless the news is what the operator itself wrote.
fn owns<K, P>(
    controller: Controller<Stored<P>>,
    context: &Arc<Context>,
    part: Option<&str>,
) -> Controller<Stored<P>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + 'static,
    P: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    // What the operator did not make cannot be one.
    let managed = format!("{MANAGED_BY}={OPERATOR}");
    let children = watches::children::<P, K>(context, part, &managed, known::controller);
    let context = Arc::clone(context);
    controller.watches_stream(children, move |child| {
        let mut owners = child.metadata.owner_references.iter().flatten();
        let owner = owners.find(|owner| {
            owner.controller == Some(true)
                && owner.kind == P::kind(&())
                && owner.api_version == P::api_version(&())
        })?;
        let echo = context.written.is_echo::<K>(&child.metadata);
        let namespace = child.namespace().unwrap_or_default();
        (!echo).then(|| context.settled.touch::<P, _>(&namespace, &owner.name))
    })
}

fn config(concurrency: u16) -> Config {
    Config::default().debounce(DEBOUNCE).concurrency(concurrency)
}

/// The policies of a namespace that depend on what is new there. They are looked at again.
fn matching(
    context: &Context,
    store: &Store<Stored<GCPolicy>>,
    namespace: &str,
    wanted: impl Fn(&GCPolicy) -> bool,
) -> Vec<ObjectRef<Stored<GCPolicy>>> {
    let state = store.state();
    let found = state
        .iter()
        .filter(|stored| stored.meta().namespace.as_deref() == Some(namespace))
        .filter(|stored| stored.0.as_ref().is_ok_and(&wanted));
    let touch =
        |policy: &Arc<Stored<GCPolicy>>| context.settled.touch::<GCPolicy, _>(namespace, &policy.name_any());
    found.map(touch).collect()
}

async fn reconcile_cache(
    object: Arc<Stored<BinaryCache>>,
    context: Arc<Context>,
) -> Result<Action, cache::Error> {
    look::<BinaryCache, _>(&object, &context, cache::Error::reason, async {
        match &object.0 {
            Ok(cache) => Box::pin(cache::reconcile(cache, &context)).await,
            Err(bad) => Ok(unreadable::report::<BinaryCache>(bad, &context).await?),
        }
    })
    .await
}

async fn reconcile_policy(
    object: Arc<Stored<GCPolicy>>,
    context: Arc<Context>,
) -> Result<Action, policy::Error> {
    look::<GCPolicy, _>(&object, &context, policy::Error::reason, async {
        match &object.0 {
            Ok(policy) => Box::pin(policy::reconcile(policy, &context)).await,
            Err(bad) => Ok(unreadable::report::<GCPolicy>(bad, &context).await?),
        }
    })
    .await
}

/// Looks at an object, unless it is as it was left, and counts that.
async fn look<K: Resource<DynamicType = ()>, E>(
    object: &Stored<K>,
    context: &Context,
    reason: fn(&E) -> &'static str,
    reconcile: impl Future<Output = Result<Duration, E>>,
) -> Result<Action, E> {
    let (key, begun) = (settled::key_of::<K>(object.meta()), Instant::now());
    let look = match context.settled.begin(&key, object.meta().resource_version.as_deref()) {
        Ok(look) => look,
        Err(due) => return Ok(Action::requeue(due)),
    };
    let outcome = reconcile.await;
    context.metrics.reconciled(kind::<K>(), outcome.as_ref().err().map_or("ok", reason), begun.elapsed());
    let wait = outcome?;
    context.backoff.succeeded(&key);
    context.settled.finish(&key, look, wait);
    Ok(Action::requeue(wait))
}

fn retry<K: Resource<DynamicType = ()>>(
    object: &Stored<K>,
    reason: &'static str,
    context: &Context,
) -> Action {
    let key = settled::key_of::<K>(object.meta());
    let wait = context.backoff.failed(&key);
    tracing::debug!(object = key, reason, ?wait, "trying again");
    Action::requeue(wait)
}

/// For metrics.
pub(crate) fn kind<K: Resource<DynamicType = ()>>() -> &'static str {
    if K::kind(&()) == "GCPolicy" { "GCPolicy" } else { "BinaryCache" }
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
