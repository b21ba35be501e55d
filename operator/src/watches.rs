//! The watches behind the controllers: what they tell is kept, as far as looks need it.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::{FutureExt as _, Stream, StreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{Event, ExponentialBackoff};
use kube::runtime::{WatchStreamExt as _, reflector as reflected, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::crd::{BinaryCache, GCPolicy};
use crate::known::Whose;
use crate::scope::api;
use crate::telemetry::chain;

/// Objects in one answer of a first list: all at once would stay in the process's memory for good.
const PAGE: u32 = 100;

/// A watch that failed waits this long, twice as long each time, and up to as much again by chance. `kube`'s own
/// default goes to a minute: as long would the operator be blind after an API server is back.
const FIRST_WAIT: Duration = Duration::from_millis(800);
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// An object as it is stored, readable or not: one that is not must not stop the watch.
pub type Stored<K> = DeserializeGuard<K>;

/// What a watch tells.
pub type Told<K> = watcher::Result<Event<K>>;

/// The caches and policies of each part of the scope.
#[derive(Debug, Default)]
pub struct Stores {
    caches: Kept<BinaryCache>,
    policies: Kept<GCPolicy>,
}

#[derive(Debug)]
struct Kept<K>(Mutex<HashMap<Option<String>, Store<Stored<K>>>>)
where
    K: Resource<DynamicType = ()> + 'static;

impl<K: Resource<DynamicType = ()> + 'static> Default for Kept<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K> Kept<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    fn keep(&self, part: Option<&str>, store: Store<Stored<K>>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(part.map(str::to_owned), store);
    }

    fn store(&self, part: Option<&str>) -> Option<Store<Stored<K>>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&part.map(str::to_owned)).cloned()
    }

    fn all(&self, part: Option<&str>) -> Option<Vec<Arc<Stored<K>>>> {
        let store = self.store(part)?;
        store.wait_until_ready().now_or_never()?.ok()?;
        Some(store.state())
    }

    fn all_readable(&self, part: Option<&str>) -> Option<Vec<Arc<Stored<K>>>> {
        self.all(part).filter(|all| all.iter().all(|object| object.0.is_ok()))
    }
}

impl Stores {
    /// All caches of a part of the scope; `None` where that is not known, or one of them cannot be read.
    pub fn caches(&self, part: Option<&str>) -> Option<Vec<Arc<Stored<BinaryCache>>>> {
        self.caches.all_readable(part)
    }

    /// The same of policies.
    pub fn policies(&self, part: Option<&str>) -> Option<Vec<Arc<Stored<GCPolicy>>>> {
        self.policies.all_readable(part)
    }

    /// The policies of a namespace that can be read, whatever others are; `None` where they are not known.
    pub fn readable_policies(
        &self,
        part: Option<&str>,
        namespace: &str,
    ) -> Option<Vec<Arc<Stored<GCPolicy>>>> {
        let mut all = self.policies.all(part)?;
        all.retain(|policy| policy.0.is_ok() && policy.meta().namespace.as_deref() == Some(namespace));
        Some(all)
    }

    /// A cache, where it was told of.
    pub fn cache(&self, part: Option<&str>, namespace: &str, name: &str) -> Option<Arc<Stored<BinaryCache>>> {
        self.caches.store(part)?.get(&ObjectRef::new(name).within(namespace))
    }
}

/// The watch of the caches, which keeps them.
pub fn caches(
    context: &Context,
    part: Option<&str>,
) -> (Store<Stored<BinaryCache>>, impl Stream<Item = Told<Stored<BinaryCache>>> + use<>) {
    let (store, told) = stored(context, part);
    context.stores.caches.keep(part, store.clone());
    (store, told)
}

/// The watch of the policies, which keeps them.
pub fn policies(
    context: &Context,
    part: Option<&str>,
) -> (Store<Stored<GCPolicy>>, impl Stream<Item = Told<Stored<GCPolicy>>> + use<>) {
    let (store, told) = stored(context, part);
    context.stores.policies.keep(part, store.clone());
    (store, told)
}

fn stored<K>(
    context: &Context,
    part: Option<&str>,
) -> (Store<Stored<K>>, impl Stream<Item = Told<Stored<K>>> + use<K>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let told = watch(api::<Stored<K>>(&context.client, part), watcher::Config::default());
    // Who wrote which field is half of an object, and nothing to anybody here.
    let told = told.modify(|object| object.meta_mut().managed_fields = None);
    (store, reflected(writer, told))
}

/// A watch that is begun again when it fails, after a while of its own. A controller never sees the failure: it would
/// hold all its watches up for each failure of any one, for minutes after an API server was away.
pub fn watch<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = Told<K>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let path = api.resource_url().to_owned();
    let waits = ExponentialBuilder::default()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .with_jitter()
        .without_max_times();
    watcher(api, config.page_size(PAGE)).backoff(ExponentialBackoff::from(waits)).filter_map(move |told| {
        if let Err(error) = &told {
            tracing::warn!(path, error = chain(error), "a watch failed and is begun again");
        }
        std::future::ready(told.is_ok().then_some(told))
    })
}

/// Under which name the children of the kind `K` of owners of the kind `P` are known.
pub fn kin<P: Resource<DynamicType = ()>, K: Resource<DynamicType = ()>>() -> String {
    format!("{} {}", P::kind(&()), K::kind(&()))
}

/// The watch of the children of the kind `K`, of whom it is known to whom they belong. Only that they changed is of
/// interest.
pub fn children<P, K>(
    context: &Arc<Context>,
    part: Option<&str>,
    labels: &str,
    whose: Whose,
) -> impl Stream<Item = watcher::Result<PartialObjectMeta<K>>> + use<P, K>
where
    P: Resource<DynamicType = ()>,
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + 'static,
{
    let all: Api<PartialObjectMeta<K>> = api(&context.client, part);
    let (context, part, kind) = (Arc::clone(context), part.map(str::to_owned), kin::<P, K>());
    watch(all, watcher::Config::default().labels(labels))
        .inspect(move |told| {
            if let Ok(event) = told {
                context.known.hear(&kind, part.as_deref(), event, whose);
            }
        })
        .touched_objects()
}
