//! What leads to which reconciliation.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
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
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
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

/// Changes that come together lead to one reconciliation.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Reconciles everything in the operator's scope until `stop`.
pub async fn run(context: &Arc<Context>, concurrency: u16, stop: &CancellationToken) {
    let parts = context.scope.parts();
    join_all(parts.iter().map(async |part| {
        tokio::join!(
            caches(context, part.as_deref(), concurrency, stop),
            policies(context, part.as_deref(), concurrency, stop),
        )
    }))
    .await;
}

async fn caches(context: &Arc<Context>, part: Option<&str>, concurrency: u16, stop: &CancellationToken) {
    let (store, told) = watches::caches(context, part);
    let mut controller =
        Controller::for_stream(told.applied_objects(), store).with_config(config(concurrency));
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

async fn policies(context: &Arc<Context>, part: Option<&str>, concurrency: u16, stop: &CancellationToken) {
    let (store, told) = watches::policies(context, part);
    let (rivals, rivals_told) = mpsc::unbounded();
    // Of two policies for one cache, the younger waits for the older to go.
    let told = told.inspect({
        let (context, store) = (Arc::clone(context), store.clone());
        move |told| {
            for rival in told.iter().flat_map(|event| rivals_of(&context, &store, event)) {
                // Nobody hears it any more: the controller has ended.
                let _ = rivals.unbounded_send(rival);
            }
        }
    });
    let controller = Controller::for_stream(told.applied_objects(), store.clone())
        .with_config(config(concurrency))
        .reconcile_on(rivals_told);
    let (of_job, of_cache) = (Arc::clone(context), Arc::clone(context));
    let news = News::default();
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
            let of_it =
                |policy: &GCPolicy| policy.spec.cache_ref.as_ref().is_some_and(|cache| cache.name == wanted);
            if news.is_in(meta) { matching(&of_cache, &store, meta, of_it) } else { Vec::new() }
        })
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(
            reconcile_policy,
            |object, error, context| retry::<GCPolicy>(&object, error.reason(), &context),
            Arc::clone(context),
        );
    drain(run).await;
}

/// The policies for the same cache as one of which something is told.
fn rivals_of(
    context: &Context,
    store: &Store<Stored<GCPolicy>>,
    event: &Event<Stored<GCPolicy>>,
) -> Vec<ObjectRef<Stored<GCPolicy>>> {
    let (Event::Apply(changed) | Event::InitApply(changed) | Event::Delete(changed)) = event else {
        return Vec::new();
    };
    let name = changed.name_any();
    let cache = changed.0.as_ref().ok().and_then(|policy| policy.spec.cache_ref.as_ref());
    matching(context, store, changed.meta(), |policy| {
        policy.spec.cache_ref.as_ref() == cache && policy.name_any() != name
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

/// The policies beside an object that depend on it. They are looked at again.
fn matching(
    context: &Context,
    store: &Store<Stored<GCPolicy>>,
    beside: &ObjectMeta,
    wanted: impl Fn(&GCPolicy) -> bool,
) -> Vec<ObjectRef<Stored<GCPolicy>>> {
    let state = store.state();
    let found = state
        .iter()
        .filter(|stored| stored.meta().namespace == beside.namespace && stored.0.as_ref().is_ok_and(&wanted));
    let touch = |policy: &Arc<Stored<GCPolicy>>| {
        context.settled.touch::<GCPolicy, _>(&policy.namespace().unwrap_or_default(), &policy.name_any())
    };
    found.map(touch).collect()
}

/// Of caches, what their policies were told last. How a cache stands is nothing to its policies.
#[derive(Debug, Default)]
struct News(Mutex<HashMap<String, ObjectMeta>>);

impl News {
    /// Whether a cache is another than it was, by more than its status.
    fn is_in(&self, meta: &ObjectMeta) -> bool {
        let told = ObjectMeta {
            uid: meta.uid.clone(),
            generation: meta.generation,
            managed_fields: meta.managed_fields.clone().map(|all| {
                all.into_iter()
                    .filter(|entry| entry.subresource.as_deref() == Some("status"))
                    .map(|entry| ManagedFieldsEntry { fields_v1: None, ..entry })
                    .collect()
            }),
            ..ObjectMeta::default()
        };
        let key = settled::key_of::<BinaryCache>(meta);
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, told.clone());
        // That a status was written shows by its time. Where not even that changed, the cache was deleted.
        before.is_none_or(|before| {
            (&before.uid, before.generation) != (&told.uid, told.generation)
                || before.managed_fields == told.managed_fields
        })
    }
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

fn kind<K: Resource<DynamicType = ()>>() -> &'static str {
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
