//! Reads what a policy refers to and how its last collections ended. Nothing is written here.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DynamicObject, ListParams, ObjectMeta};
use kube::core::{ApiResource, DeserializeGuard, Selector};
use kube::{Api, Client, ResourceExt as _};

use crate::cache::validate::{tls_ca, tls_secret};
use crate::context::Context;
use crate::crd::gc_policy::CollectedCache;
use crate::crd::{BinaryCache, GCPolicy};
use crate::labels::{FSCK, JOB_NAME, POLICY_LABEL, TASK_LABEL, cache_of};
use crate::watches;

use super::claims::{Claimant, Holder};
use super::{Error, last_run};

/// A status has to stay small enough to be stored, and each cache takes up to 3 kB of it.
pub const MAX_CACHES: usize = 100;

/// What was found.
#[derive(Debug, Default)]
pub struct Observed {
    /// The caches that the spec names or selects and no other policy has, by name.
    pub caches: Vec<Found>,
    /// Those that other policies have.
    pub taken: Vec<(String, Holder)>,
    /// How many more are selected than a policy collects.
    pub beyond: usize,
}

/// A cache that the spec names or selects.
#[derive(Debug, Default)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// It, or why it cannot be read; nothing where it is not there.
    pub cache: Option<Result<Box<BinaryCache>, String>>,
    /// The Secret with the CA of its server, where it has one of its own.
    pub server_ca: Option<String>,
    /// The Job of its last collection that ended, and the Job's pods. Not of one that the status tells of.
    pub last_job: Option<(Job, Vec<Pod>)>,
    /// The same of its last comparison of bucket and database.
    pub last_fsck: Option<(Job, Vec<Pod>)>,
}

/// Reads what a policy refers to.
pub async fn observe(policy: &GCPolicy, context: &Context) -> Result<Observed, Error> {
    let namespace = policy.namespace().unwrap_or_default();
    let mut observed = find_caches(policy, &namespace, context).await?;
    let mut jobs = find_jobs(policy, &namespace, context).await?;
    for found in &mut observed.caches {
        if let Some(Ok(cache)) = &found.cache {
            found.server_ca = find_ca(cache, context).await?;
        }
        let known = policy.status.as_ref().map(|status| status.caches.as_slice()).unwrap_or_default();
        let known = known.iter().find(|cache| cache.name == found.name);
        let Some((collections, comparisons)) = jobs.remove(&found.name) else { continue };
        let run = |known: &CollectedCache| Some(known.last_run.as_ref()?.job_name.clone());
        found.last_job = last_of(collections, known.and_then(run), &context.client, &namespace).await?;
        let fsck = |known: &CollectedCache| Some(known.last_fsck.as_ref()?.job_name.clone());
        found.last_fsck = last_of(comparisons, known.and_then(fsck), &context.client, &namespace).await?;
    }
    Ok(observed)
}

/// The caches, and which of them others have.
async fn find_caches(policy: &GCPolicy, namespace: &str, context: &Context) -> Result<Observed, Error> {
    let caches: Api<DeserializeGuard<BinaryCache>> = Api::namespaced(context.client.clone(), namespace);
    let read = |source| Error::Observe { what: "the caches", source };
    let mut all = match (&policy.spec.cache_ref, &policy.spec.cache_selector) {
        (Some(wanted), _) => caches.get_opt(&wanted.name).await.map_err(read)?.into_iter().collect(),
        (None, Some(wanted)) => match Selector::try_from(wanted.clone()) {
            Ok(wanted) => caches.list(&ListParams::default().labels_from(&wanted)).await.map_err(read)?.items,
            // What is wrong with it is said by `validate`.
            Err(_) => Vec::new(),
        },
        (None, None) => Vec::new(),
    };
    all.sort_by_key(|cache| (cache.creation_timestamp().map(|time| time.0), cache.name_any()));
    let (own, others) = (Claimant::of(policy), claimants(namespace, context).await?);
    let mut observed = Observed::default();
    if let Some(wanted) = policy.spec.cache_ref.as_ref().filter(|_| all.is_empty()) {
        match own.holder(&others, &wanted.name, &BTreeMap::new()) {
            Some(holder) => observed.taken.push((wanted.name.clone(), holder)),
            None => observed.caches.push(Found { name: wanted.name.clone(), ..Found::default() }),
        }
    }
    for cache in all {
        let name = cache.name_any();
        if let Some(holder) = own.holder(&others, &name, cache.labels()) {
            observed.taken.push((name, holder));
        } else if observed.caches.len() == MAX_CACHES {
            observed.beyond += 1;
        } else {
            let cache = cache.0.map(Box::new).map_err(|bad| bad.error);
            observed.caches.push(Found { name, cache: Some(cache), ..Found::default() });
        }
    }
    observed.caches.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(observed)
}

/// The policies of the namespace: by what the watches told, or the API server where that is not all.
async fn claimants(namespace: &str, context: &Context) -> Result<Vec<Claimant>, Error> {
    if let Some(known) = context.stores.policies(context.scope.part_of(namespace)) {
        let readable = known.iter().filter_map(|policy| policy.0.as_ref().ok());
        let here = readable.filter(|policy| policy.metadata.namespace.as_deref() == Some(namespace));
        return Ok(here.map(Claimant::of).collect());
    }
    // Loosely typed: one that cannot be read has its caches all the same.
    let kind = ApiResource::erase::<GCPolicy>(&());
    let all: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &kind);
    let all = all.list(&ListParams::default()).await;
    let all = all.map_err(|source| Error::Observe { what: "the other policies", source })?;
    Ok(all.items.iter().map(Claimant::loosely).collect())
}

/// Those that collect, and those that compare.
type Jobs = (Vec<Job>, Vec<Job>);

/// The Jobs of a policy by the caches they are for.
async fn find_jobs(
    policy: &GCPolicy,
    namespace: &str,
    context: &Context,
) -> Result<HashMap<String, Jobs>, Error> {
    let (part, name) = (context.scope.part_of(namespace), policy.name_any());
    let known = context.known.of(&watches::kin::<GCPolicy, Job>(), part, namespace, &name);
    if known.is_some_and(|jobs| jobs.is_empty()) {
        return Ok(HashMap::new());
    }
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), namespace);
    let of_policy = ListParams::default().labels(&format!("{POLICY_LABEL}={name}"));
    let jobs =
        jobs.list(&of_policy).await.map_err(|source| Error::Observe { what: "the policy's Jobs", source })?;
    let mut found: HashMap<String, Jobs> = HashMap::new();
    for job in jobs.items {
        let Some(cache) = cache_of(job.labels()).map(str::to_owned) else { continue };
        let (collections, comparisons) = found.entry(cache).or_default();
        if is_fsck(&job) { comparisons.push(job) } else { collections.push(job) }
    }
    Ok(found)
}

fn is_fsck(job: &Job) -> bool {
    job.labels().get(TASK_LABEL).is_some_and(|task| task == FSCK)
}

/// Of these Jobs the one that ended last, and its pods. Nothing where that is `known`: what has ended stays as it is.
async fn last_of(
    jobs: Vec<Job>,
    known: Option<String>,
    client: &Client,
    namespace: &str,
) -> Result<Option<(Job, Vec<Pod>)>, Error> {
    let Some(job) = last_run::newest_ended(jobs).filter(|job| job.metadata.name != known) else {
        return Ok(None);
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let of_job = ListParams::default().labels(&format!("{JOB_NAME}={}", job.name_any()));
    let pods = pods.list(&of_job).await;
    let pods = pods.map_err(|source| Error::Observe { what: "the pods of the last Job", source })?;
    Ok(Some((job, pods.items)))
}

/// Where the server speaks TLS with a certificate that only its own CA knows.
async fn find_ca(cache: &BinaryCache, context: &Context) -> Result<Option<String>, Error> {
    let Some(name) = tls_secret(&cache.name_any(), &cache.spec) else { return Ok(None) };
    let secrets: Api<Secret> =
        Api::namespaced(context.client.clone(), &cache.namespace().unwrap_or_default());
    let found = secrets.get_opt(&name).await;
    let found = found.map_err(|source| Error::Observe { what: "the certificate of the cache", source })?;
    Ok(found.as_ref().and_then(tls_ca).map(|_| name))
}

/// The policy to which a Job belongs.
pub fn policy_of(job: &ObjectMeta) -> Option<&str> {
    job.labels.as_ref()?.get(POLICY_LABEL).map(String::as_str)
}
