//! Reads what a policy refers to and how its last collection ended. Nothing is written here.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use crate::context::Context;
use crate::crd::{BinaryCache, GCPolicy};
use crate::labels::POLICY_LABEL;

use super::{Error, last_run};

/// Kubernetes puts it on the pods of a Job.
const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";

/// What was found.
#[derive(Debug, Default)]
pub struct Observed {
    /// The cache to collect.
    pub cache: Option<BinaryCache>,
    /// An older policy for the same cache.
    pub cache_taken_by: Option<String>,
    /// The Job of the last collection that ended, and its pods.
    pub last_job: Option<(Job, Vec<Pod>)>,
}

/// Reads what a policy refers to.
pub async fn observe(policy: &GCPolicy, context: &Context) -> Result<Observed, Error> {
    let namespace = policy.namespace().unwrap_or_default();
    let (client, name) = (&context.client, policy.name_any());
    let caches: Api<BinaryCache> = Api::namespaced(client.clone(), &namespace);
    let cache = match &policy.spec.cache_ref {
        Some(wanted) => caches
            .get_opt(&wanted.name)
            .await
            .map_err(|source| Error::Observe { what: "the cache", source })?,
        None => None,
    };
    let policies: Api<GCPolicy> = Api::namespaced(client.clone(), &namespace);
    let policies = policies
        .list(&ListParams::default())
        .await
        .map_err(|source| Error::Observe { what: "the other policies", source })?;
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let of_policy = ListParams::default().labels(&format!("{POLICY_LABEL}={name}"));
    let jobs =
        jobs.list(&of_policy).await.map_err(|source| Error::Observe { what: "the policy's Jobs", source })?;
    let last_job = match last_run::newest_ended(jobs.items) {
        Some(job) => {
            let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
            let of_job = ListParams::default().labels(&format!("{JOB_NAME_LABEL}={}", job.name_any()));
            let pods = pods
                .list(&of_job)
                .await
                .map_err(|source| Error::Observe { what: "the pods of the last collection", source })?;
            Some((job, pods.items))
        }
        None => None,
    };
    Ok(Observed { cache, cache_taken_by: older_for_cache(policy, &policies.items), last_job })
}

/// The oldest of `others` that collects the same cache and is older than `policy`.
fn older_for_cache(policy: &GCPolicy, others: &[GCPolicy]) -> Option<String> {
    let age = |policy: &GCPolicy| (policy.creation_timestamp().map(|time| time.0), policy.name_any());
    let wanted = policy.spec.cache_ref.as_ref()?;
    others
        .iter()
        .filter(|other| other.uid() != policy.uid() && age(other) < age(policy))
        .filter(|other| other.spec.cache_ref.as_ref() == Some(wanted))
        .filter(|other| other.metadata.deletion_timestamp.is_none())
        .min_by_key(|other| age(other))
        .map(kube::ResourceExt::name_any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_policy_has_the_cache() {
        let policy = |name: &str, created: &str, cache: &str| -> GCPolicy {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": name, "uid": name, "creationTimestamp": created},
                "spec": {"cacheRef": {"name": cache}, "schedule": "@daily", "retention": {}}
            }))
            .unwrap()
        };
        let old = policy("old", "2026-01-01T00:00:00Z", "main");
        let young = policy("young", "2026-01-02T00:00:00Z", "main");
        let other = policy("other", "2026-01-03T00:00:00Z", "second");
        let all = [young.clone(), old.clone(), other.clone()];
        assert_eq!(older_for_cache(&young, &all), Some("old".to_owned()));
        assert_eq!(older_for_cache(&old, &all), None);
        assert_eq!(older_for_cache(&other, &all), None);
    }
}
