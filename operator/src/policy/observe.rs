//! Reads what a policy refers to and how its last collection ended. Nothing is written here.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ListParams, ObjectMeta};
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource, ResourceExt as _};

use crate::cache::validate::{tls_ca, tls_secret};
use crate::context::Context;
use crate::crd::{BinaryCache, GCPolicy};
use crate::labels::{FSCK, POLICY_LABEL, TASK_LABEL};
use crate::watches;

use super::{Error, last_run};

/// Kubernetes puts it on the pods of a Job.
const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";

/// What was found.
#[derive(Debug, Default)]
pub struct Observed {
    /// The cache to collect.
    pub cache: Option<BinaryCache>,
    /// Why it cannot be read, where it is there and cannot.
    pub cache_unreadable: Option<String>,
    /// The Secret with the CA of the cache's server, where it has one of its own.
    pub server_ca: Option<String>,
    /// An older policy for the same cache.
    pub cache_taken_by: Option<String>,
    /// The Job of the last collection that ended, and its pods.
    pub last_job: Option<(Job, Vec<Pod>)>,
    /// The same of the last comparison of bucket and database.
    pub last_fsck: Option<(Job, Vec<Pod>)>,
}

/// Reads what a policy refers to.
pub async fn observe(policy: &GCPolicy, context: &Context) -> Result<Observed, Error> {
    let namespace = policy.namespace().unwrap_or_default();
    let (client, name) = (&context.client, policy.name_any());
    let (mut cache, mut cache_unreadable, mut cache_taken_by) = (None, None, None);
    if let Some(wanted) = &policy.spec.cache_ref {
        let caches: Api<DeserializeGuard<BinaryCache>> = Api::namespaced(client.clone(), &namespace);
        let found = caches.get_opt(&wanted.name).await;
        match found.map_err(|source| Error::Observe { what: "the cache", source })? {
            Some(DeserializeGuard(Ok(readable))) => cache = Some(readable),
            Some(DeserializeGuard(Err(bad))) => cache_unreadable = Some(bad.error),
            None => {}
        }
        cache_taken_by = find_older(policy, &wanted.name, context).await?;
    }
    let server_ca = find_ca(cache.as_ref(), context).await?;
    let observed = Observed { cache, cache_unreadable, server_ca, cache_taken_by, ..Observed::default() };
    let part = context.scope.part_of(&namespace);
    let known = context.known.of(&watches::kin::<GCPolicy, Job>(), part, &namespace, &name);
    if known.is_some_and(|jobs| jobs.is_empty()) {
        return Ok(observed);
    }
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let of_policy = ListParams::default().labels(&format!("{POLICY_LABEL}={name}"));
    let jobs =
        jobs.list(&of_policy).await.map_err(|source| Error::Observe { what: "the policy's Jobs", source })?;
    let (comparisons, collections) = jobs.items.into_iter().partition(is_fsck);
    let last_job = last_of(collections, client, &namespace).await?;
    let last_fsck = last_of(comparisons, client, &namespace).await?;
    Ok(Observed { last_job, last_fsck, ..observed })
}

fn is_fsck(job: &Job) -> bool {
    job.labels().get(TASK_LABEL).is_some_and(|task| task == FSCK)
}

/// Of these Jobs the one that ended last, and its pods.
async fn last_of(jobs: Vec<Job>, client: &Client, namespace: &str) -> Result<Option<(Job, Vec<Pod>)>, Error> {
    let Some(job) = last_run::newest_ended(jobs) else { return Ok(None) };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let of_job = ListParams::default().labels(&format!("{JOB_NAME_LABEL}={}", job.name_any()));
    let pods = pods.list(&of_job).await;
    let pods = pods.map_err(|source| Error::Observe { what: "the pods of the last Job", source })?;
    Ok(Some((job, pods.items)))
}

/// Where the server speaks TLS with a certificate that only its own CA knows.
async fn find_ca(cache: Option<&BinaryCache>, context: &Context) -> Result<Option<String>, Error> {
    let Some(cache) = cache else { return Ok(None) };
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

/// An older policy for the same cache: by what the watches told, or the API server where that is not all.
async fn find_older(policy: &GCPolicy, cache: &str, context: &Context) -> Result<Option<String>, Error> {
    let namespace = policy.namespace().unwrap_or_default();
    if let Some(known) = context.stores.policies(context.scope.part_of(&namespace)) {
        let readable = known.iter().filter_map(|other| other.0.as_ref().ok());
        let of_cache = readable.filter(|other| {
            other.metadata.namespace.as_ref() == Some(&namespace)
                && other.spec.cache_ref.as_ref().is_some_and(|other| other.name == cache)
        });
        return Ok(oldest_before(policy.meta(), of_cache.map(Resource::meta)));
    }
    let api: Api<GCPolicy> = Api::namespaced(context.client.clone(), &namespace);
    let of_cache = ListParams::default().fields(&format!("spec.cacheRef.name={cache}"));
    let others = api.list_metadata(&of_cache).await;
    let others = others.map_err(|source| Error::Observe { what: "the other policies", source })?;
    Ok(oldest_before(policy.meta(), others.items.iter().map(Resource::meta)))
}

/// The name of the oldest of `others` that is older than `own` and is there to stay.
fn oldest_before<'a>(own: &ObjectMeta, others: impl Iterator<Item = &'a ObjectMeta>) -> Option<String> {
    fn age(meta: &ObjectMeta) -> impl Ord {
        (meta.creation_timestamp.as_ref().map(|time| time.0), meta.name.clone())
    }
    others
        .filter(|other| other.uid != own.uid && age(other) < age(own))
        .filter(|other| other.deletion_timestamp.is_none())
        .min_by_key(|other| age(other))
        .and_then(|oldest| oldest.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_policy_has_the_cache() {
        let meta = |name: &str, created: &str| ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            creation_timestamp: serde_json::from_value(created.into()).unwrap(),
            ..ObjectMeta::default()
        };
        let all = [meta("young", "2026-01-02T00:00:00Z"), meta("old", "2026-01-01T00:00:00Z")];
        assert_eq!(oldest_before(&all[0], all.iter()), Some("old".to_owned()));
        assert_eq!(oldest_before(&all[1], all.iter()), None);
    }
}
