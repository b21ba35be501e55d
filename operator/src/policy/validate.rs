//! Pure: everything doubtful about a policy and its caches becomes a plain value or a reason.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt as _;
use kube::core::Selector;
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

use super::observe::{Found, MAX_CACHES, Observed};
use super::{limits, schedule};

/// A message names no more caches than this.
const MOST_NAMES: usize = 10;

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

/// A policy that can be built, for one of its caches.
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

/// A policy whose spec can be carried out, for one cache at least.
#[derive(Debug, Default)]
pub struct Validated {
    /// The caches it collects, by name.
    pub caches: Vec<ValidPolicy>,
    /// Why it does not collect others that it selects.
    pub invalid: Vec<Invalid>,
}

impl Validated {
    /// All that is wrong with one condition: the first gives the reason.
    pub fn trouble(&self, about: ConditionType) -> Option<Invalid> {
        let all: Vec<&Invalid> = self.invalid.iter().filter(|invalid| invalid.about == about).collect();
        let message = listed(all.iter().map(|invalid| invalid.message.clone()), "; ");
        Some(Invalid { message, ..(*all.first()?).clone() })
    }
}

/// Makes a spec and what was found into what can be built.
pub fn validate(policy: &GCPolicy, observed: &Observed, images: &Images) -> Result<Validated, Invalid> {
    let spec = &policy.spec;
    let selects = match (&spec.cache_ref, &spec.cache_selector) {
        (Some(_), None) => false,
        (None, Some(_)) => true,
        // The API server refuses this; it may have been stored under another schema.
        _ => return Err(invalid_spec("set exactly one of cacheRef and cacheSelector".to_owned())),
    };
    if let Some(selector) = &spec.cache_selector {
        let parsed = Selector::try_from(selector.clone());
        parsed.map_err(|error| invalid_spec(format!("cacheSelector: {error}")))?;
    }
    if observed.caches.is_empty() {
        return Err(nothing_to_collect(observed, selects));
    }
    let limits = limits::limits(spec)?;
    let mut validated = Validated::default();
    for found in &observed.caches {
        match of_cache(policy, found, &limits, images) {
            Ok(valid) => validated.caches.push(valid),
            Err(invalid) => validated.invalid.push(invalid),
        }
    }
    validated.invalid.extend(too_many(observed));
    let none = validated.caches.is_empty();
    match validated.invalid.first().and_then(|first| validated.trouble(first.about)) {
        Some(invalid) if none => Err(invalid),
        _ => Ok(validated),
    }
}

fn invalid_spec(message: String) -> Invalid {
    Invalid { about: ConditionType::Accepted, reason: Reason::InvalidSpec, message }
}

/// No cache is there, or others have them all.
fn nothing_to_collect(observed: &Observed, selects: bool) -> Invalid {
    if observed.taken.is_empty() {
        let message =
            "no BinaryCache of this namespace has the labels that cacheSelector asks for".to_owned();
        let (about, reason) = (ConditionType::CachesResolved, Reason::NoCacheMatches);
        return Invalid { about, reason, message };
    }
    let message = match (&observed.taken[..], selects) {
        ([(cache, holder)], false) => {
            format!("GCPolicy {} {} and collects BinaryCache {cache}", holder.policy, holder.why)
        }
        _ => format!("other policies collect all of its caches: {}", taken(observed)),
    };
    Invalid { about: ConditionType::Accepted, reason: Reason::Conflicted, message }
}

/// The caches that others have, and who.
pub fn taken(observed: &Observed) -> String {
    let all = observed.taken.iter();
    listed(all.map(|(cache, holder)| format!("{cache} (GCPolicy {} {})", holder.policy, holder.why)), ", ")
}

/// The first of many.
pub fn listed(all: impl ExactSizeIterator<Item = String>, between: &str) -> String {
    let more = all.len().saturating_sub(MOST_NAMES);
    let words = all.take(MOST_NAMES).collect::<Vec<_>>().join(between);
    if more > 0 { format!("{words}{between}and {more} more") } else { words }
}

fn too_many(observed: &Observed) -> Option<Invalid> {
    let message = format!(
        "cacheSelector matches {} caches, of which the {MAX_CACHES} oldest are collected",
        observed.caches.len() + observed.beyond
    );
    let (about, reason) = (ConditionType::CachesResolved, Reason::TooManyCaches);
    (observed.beyond > 0).then_some(Invalid { about, reason, message })
}

/// What is to be done for one of the caches.
fn of_cache(
    policy: &GCPolicy,
    found: &Found,
    limits: &GcParams,
    images: &Images,
) -> Result<ValidPolicy, Invalid> {
    let (name, resolved) = (&found.name, ConditionType::CachesResolved);
    let invalid = |about, reason, message| Invalid { about, reason, message };
    let cache = match &found.cache {
        Some(Ok(cache)) => cache,
        Some(Err(why)) => {
            let message = format!("BinaryCache {name} cannot be read: {why}");
            return Err(invalid(resolved, Reason::CacheNotReady, message));
        }
        None => {
            let message = format!("BinaryCache {name} does not exist in this namespace");
            return Err(invalid(resolved, Reason::CacheNotFound, message));
        }
    };
    let expiry = presign_expiry(&cache.spec).map_err(|error| {
        let message = format!("BinaryCache {name}: {}", error.message);
        invalid(resolved, Reason::CacheNotReady, message)
    })?;
    limits::upload_window(limits, expiry).map_err(|invalid| Invalid {
        message: format!("{}{}", prefix(policy, name), invalid.message),
        ..invalid
    })?;
    if cache.spec.auth.kubernetes.mode == KubernetesAuthMode::Disabled {
        let message =
            format!("BinaryCache {name} takes no ServiceAccount tokens; set auth.kubernetes.mode: Enabled");
        return Err(invalid(resolved, Reason::KubernetesAuthDisabled, message));
    }
    if limits.keep_if_read_within.is_some() && cache.spec.server.read_proxy.mode == ReadProxyMode::Disabled {
        return Err(invalid_spec(format!(
            "retention.keepIfReadWithin: BinaryCache {name} sees no reads; set server.readProxy.mode there"
        )));
    }
    Ok(build_from(policy, cache, found.server_ca.clone(), limits.clone(), images))
}

/// Says which cache a message is about, where the policy has not named it.
pub fn prefix(policy: &GCPolicy, cache: &str) -> String {
    if policy.spec.cache_selector.is_some() { format!("BinaryCache {cache}: ") } else { String::new() }
}

fn build_from(
    policy: &GCPolicy,
    cache: &BinaryCache,
    server_ca: Option<String>,
    limits: GcParams,
    images: &Images,
) -> ValidPolicy {
    let (spec, namespace) = (&policy.spec, policy.namespace().unwrap_or_default());
    let (cache_name, uid) = (cache.name_any(), cache.uid().unwrap_or_default());
    ValidPolicy {
        name: policy.name_any(),
        owner: labels::owner(policy),
        endpoint: labels::endpoint(&cache_name, &namespace, cache.spec.server.tls.is_some()),
        server_ca,
        audience: audience(cache),
        image: server_image(&cache.spec, images),
        pull_policy: cache.spec.server.image_pull_policy.or(images.pull_policy),
        pull_secrets: cache.spec.server.image_pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
        schedule: schedule::spread(&spec.schedule, &uid, "gc"),
        time_zone: spec.time_zone.clone(),
        suspended: suspended(policy, cache),
        cache_suspended: cache.spec.suspend == Suspend::Server,
        concurrency: spec.concurrency_policy,
        starting_deadline: spec.starting_deadline_seconds,
        job: spec.job.clone(),
        fsck_schedule: spec.fsck.as_ref().map(|fsck| schedule::spread(&fsck.schedule, &uid, labels::FSCK)),
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
