//! Pure: everything doubtful about a policy becomes a plain value or a reason.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt as _;
use niks3_protocol::api::fsck::FsckParams;
use niks3_protocol::api::gc::GcParams;

use crate::apply::ApplyError;
use crate::args::Images;
use crate::cache::validate::{audience, presign_expiry, server_image};
use crate::crd::binary_cache::{KubernetesAuthMode, PullPolicy, ReadProxyMode, Suspend};
use crate::crd::conditions::{ConditionType, Reason};
use crate::crd::gc_policy::{ConcurrencyPolicy, JobOptions};
use crate::crd::{BinaryCache, GCPolicy};
use crate::labels;

use super::limits;
use super::observe::Observed;

/// A policy that cannot be carried out, and which condition says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// `Accepted` or `CachesResolved`.
    pub about: ConditionType,
    /// Why.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}

/// A policy that can be built.
#[derive(Debug)]
pub struct ValidPolicy {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What makes it the owner of its children.
    pub owner: OwnerReference,
    /// The cache it collects.
    pub cache: String,
    /// The cache's address inside the cluster.
    pub endpoint: String,
    /// The Secret with the CA of the cache's server, where it has one of its own.
    pub server_ca: Option<String>,
    /// What tokens for the cache must be made for.
    pub audience: String,
    /// Of the client.
    pub image: String,
    /// Of the client.
    pub pull_policy: Option<PullPolicy>,
    /// What the image is pulled with.
    pub pull_secrets: Vec<String>,
    /// Five fields of cron.
    pub schedule: String,
    /// Of the schedule.
    pub time_zone: String,
    /// Why no collection is begun, where none is.
    pub suspended: Option<String>,
    /// Whether the cache's server stands still.
    pub cache_suspended: bool,
    /// What becomes of a collection that is due while another one runs.
    pub concurrency: ConcurrencyPolicy,
    /// For how long a collection may be begun late, in seconds.
    pub starting_deadline: i64,
    /// How the Jobs run.
    pub job: JobOptions,
    /// What is kept.
    pub limits: GcParams,
    /// When bucket and database are compared, in five fields of cron, where they are.
    pub fsck_schedule: Option<String>,
    /// How they are compared.
    pub fsck: FsckParams,
    /// How many Jobs are kept.
    pub successful_jobs: i32,
    /// How many Jobs are kept.
    pub failed_jobs: i32,
}

/// Makes a spec and what was found into a policy that can be built.
pub fn validate(policy: &GCPolicy, observed: &Observed, images: &Images) -> Result<ValidPolicy, Invalid> {
    let spec = &policy.spec;
    let invalid = |about, reason, message| Err(Invalid { about, reason, message });
    let accepted = ConditionType::Accepted;
    let Some(wanted) = &spec.cache_ref else {
        return invalid(accepted, Reason::InvalidSpec, "cacheRef: set the cache to collect".to_owned());
    };
    if let Some(other) = &observed.cache_taken_by {
        let message = format!("GCPolicy {other} is older and collects BinaryCache {}", wanted.name);
        return invalid(accepted, Reason::Conflicted, message);
    }
    let limits = limits::limits(spec)?;
    if let Some(why) = &observed.cache_unreadable {
        let message = format!("BinaryCache {} cannot be read: {why}", wanted.name);
        return invalid(ConditionType::CachesResolved, Reason::CacheNotReady, message);
    }
    let Some(cache) = &observed.cache else {
        let message = format!("BinaryCache {} does not exist in this namespace", wanted.name);
        return invalid(ConditionType::CachesResolved, Reason::CacheNotFound, message);
    };
    let expiry = presign_expiry(&cache.spec).map_err(|error| Invalid {
        about: ConditionType::CachesResolved,
        reason: Reason::CacheNotReady,
        message: format!("BinaryCache {}: {}", wanted.name, error.message),
    })?;
    limits::upload_window(&limits, expiry)?;
    if cache.spec.auth.kubernetes.mode == KubernetesAuthMode::Disabled {
        let message = format!(
            "BinaryCache {} takes no ServiceAccount tokens; set auth.kubernetes.mode: Enabled",
            wanted.name
        );
        return invalid(ConditionType::CachesResolved, Reason::KubernetesAuthDisabled, message);
    }
    if limits.keep_if_read_within.is_some() && cache.spec.server.read_proxy.mode == ReadProxyMode::Disabled {
        let message = format!(
            "retention.keepIfReadWithin: BinaryCache {} sees no reads; set server.readProxy.mode there",
            wanted.name
        );
        return invalid(accepted, Reason::InvalidSpec, message);
    }
    Ok(build_from(policy, cache, observed.server_ca.clone(), limits, images))
}

fn build_from(
    policy: &GCPolicy,
    cache: &BinaryCache,
    server_ca: Option<String>,
    limits: GcParams,
    images: &Images,
) -> ValidPolicy {
    let (spec, namespace) = (&policy.spec, policy.namespace().unwrap_or_default());
    let cache_name = cache.name_any();
    ValidPolicy {
        name: policy.name_any(),
        owner: labels::owner(policy),
        endpoint: labels::endpoint(&cache_name, &namespace, cache.spec.server.tls.is_some()),
        server_ca,
        audience: audience(cache),
        image: server_image(&cache.spec, images),
        pull_policy: cache.spec.server.image_pull_policy.or(images.pull_policy),
        pull_secrets: cache.spec.server.image_pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
        schedule: spec.schedule.clone(),
        time_zone: spec.time_zone.clone(),
        suspended: suspended(policy, cache),
        cache_suspended: cache.spec.suspend == Suspend::Server,
        concurrency: spec.concurrency_policy,
        starting_deadline: spec.starting_deadline_seconds,
        job: spec.job.clone(),
        fsck_schedule: spec.fsck.as_ref().map(|fsck| fsck.schedule.clone()),
        fsck: limits::fsck(spec, &limits),
        limits,
        successful_jobs: spec.successful_jobs_history_limit,
        failed_jobs: spec.failed_jobs_history_limit,
        cache: cache_name,
        namespace,
    }
}

/// Why no collection is begun.
fn suspended(policy: &GCPolicy, cache: &BinaryCache) -> Option<String> {
    if policy.spec.suspend {
        return Some("spec.suspend is set: no collection is begun".to_owned());
    }
    let stands = cache.spec.suspend == Suspend::Server;
    stands.then(|| format!("BinaryCache {} is suspended: no collection is begun", cache.name_any()))
}

/// The API server knows cron and time zones: what it refuses about them is the spec's fault.
pub fn refused(error: &ApplyError) -> Option<Invalid> {
    let status = error.status().filter(|status| status.is_invalid())?;
    let (reason, field) = if status.message.contains("spec.timeZone") {
        (Reason::InvalidTimeZone, "timeZone")
    } else if status.message.contains("spec.schedule") {
        (Reason::InvalidSchedule, "schedule")
    } else {
        return None;
    };
    // The other CronJob's name ends otherwise.
    let whose =
        if field == "schedule" && error.name.ends_with(&format!("-{}", labels::FSCK)) { "fsck." } else { "" };
    let message = format!("{whose}{field}: {}", status.message);
    Some(Invalid { about: ConditionType::Accepted, reason, message })
}
