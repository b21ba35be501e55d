//! `GCPolicy`: when caches are collected, and what is kept. The comments of the fields are what
//! `kubectl explain` shows.

mod fsck;
mod job;
mod retention;
mod status;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use fsck::{Fsck, FsckMode, FsckResult, LastFsck};
pub use job::{ConcurrencyPolicy, JobOptions};
pub use retention::{GCMode, PinRule, Retention, Safety};
pub use status::{CollectedCache, GCPolicyStatus, LastRun, RunNow, RunNowCache, RunResult};

/// On a policy: an RFC 3339 time at which to collect once, beside the schedule. Another time asks again. Behind it may
/// stand ` DryRun`, ` OverrideSafety` for a collection that `spec.safety` does not stop, or ` Fsck` for a comparison of
/// bucket and database in place of a collection.
pub const RUN_NOW: &str = "niks3.dev/run-now";

/// What the policy should be.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "niks3.dev",
    version = "v1alpha1",
    kind = "GCPolicy",
    plural = "gcpolicies",
    shortname = "gcpol",
    category = "nix",
    namespaced,
    doc = "When binary caches are collected, and what is kept. Pinned closures are always kept.",
    status = "GCPolicyStatus",
    derive = "PartialEq",
    selectable = ".spec.cacheRef.name",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Suspend", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Caches", type_ = "integer", json_path = ".status.matchedCaches"),
    printcolumn(name = "Last-Success", type_ = "date", json_path = ".status.lastSuccessfulTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("metadata.name: at most 63 characters")
        .reason(Reason::FieldValueInvalid)
)]
#[x_kube(validation = Rule::new("has(self.cacheRef) != has(self.cacheSelector)")
    .message("set exactly one of cacheRef and cacheSelector").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new("!has(self.cacheSelector) || !has(self.cacheSelector.matchExpressions) || self.cacheSelector.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && size(e.values) > 0 : e.operator in ['Exists', 'DoesNotExist'])")
    .message("cacheSelector: an operator is In or NotIn, with values, or Exists or DoesNotExist").field_path(".cacheSelector").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new("!self.schedule.contains('TZ')")
    .message("schedule: has no time zone; use timeZone").field_path(".schedule").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct GCPolicySpec {
    /// The cache, in the policy's namespace. Of two policies for one cache the one that names it here counts, else the
    /// older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_ref: Option<CacheRef>,
    /// In place of `cacheRef`: the caches with these labels, in the policy's namespace; an empty selector means all of
    /// them. Each has a CronJob of its own. The hundred oldest are collected where more match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_selector: Option<LabelSelector>,
    /// When, as five fields of cron (`17 3 * * *` is 03:17 every day), or `@daily`, `@weekly` and the like. `H` for the
    /// minute or the hour is one of each cache's own, always the same for it: with `H 3 * * *` the caches of a policy are
    /// not all collected at once, but some time between 03:00 and 03:59.
    #[schemars(length(min = 1, max = 128))]
    pub schedule: String,
    /// The time zone of the schedule, such as `Europe/Berlin`.
    #[serde(default = "GCPolicySpec::default_time_zone")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// No collection is begun while this is true; nor while the cache's server is suspended.
    #[serde(default)]
    pub suspend: bool,
    /// What becomes of a collection that is due while another one runs.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// A collection that could not be begun for so many seconds after its time is left out.
    #[serde(default = "GCPolicySpec::default_starting_deadline")]
    #[schemars(range(min = 10, max = 604_800))]
    pub starting_deadline_seconds: i64,
    /// Whether it collects, or only says what it would do.
    #[serde(default)]
    pub mode: GCMode,
    /// What is kept.
    pub retention: Retention,
    /// How far a collection may go.
    #[serde(default)]
    pub safety: Safety,
    /// When the bucket is compared with the database, and what is done about what differs. Without it, it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fsck: Option<Fsck>,
    /// How the Jobs run.
    #[serde(default)]
    pub job: JobOptions,
    /// How many successful Jobs are kept for looking at.
    #[serde(default = "GCPolicySpec::default_successful")]
    #[schemars(range(min = 0, max = 100))]
    pub successful_jobs_history_limit: i32,
    /// How many failed Jobs are kept for looking at.
    #[serde(default = "GCPolicySpec::default_failed")]
    #[schemars(range(min = 0, max = 100))]
    pub failed_jobs_history_limit: i32,
}

impl GCPolicySpec {
    fn default_time_zone() -> String {
        "Etc/UTC".to_owned()
    }

    fn default_starting_deadline() -> i64 {
        3600
    }

    fn default_successful() -> i32 {
        3
    }

    fn default_failed() -> i32 {
        1
    }
}

/// A `BinaryCache` in the same namespace.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheRef {
    /// Its name.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
}
