//! `GCPolicy`: when a cache is collected, and what is kept. The comments of the fields are what
//! `kubectl explain` shows.

mod fsck;
mod job;
mod retention;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use fsck::{Fsck, FsckMode, FsckResult, LastFsck};
pub use job::{ConcurrencyPolicy, JobOptions};
pub use retention::{GCMode, PinRule, Retention, Safety};

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
    doc = "When a binary cache is collected, and what is kept. Pinned closures are always kept.",
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
#[x_kube(validation = Rule::new("has(self.cacheRef)").message("cacheRef: set the cache to collect").reason(Reason::FieldValueRequired))]
#[x_kube(validation = Rule::new("!self.schedule.contains('TZ')")
    .message("schedule: has no time zone; use timeZone").field_path(".schedule").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct GCPolicySpec {
    /// The cache, in the policy's namespace. Of two policies for one cache the older one counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_ref: Option<CacheRef>,
    /// When, as five fields of cron (`17 3 * * *` is 03:17 every day), or `@daily`, `@weekly` and the like.
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

/// What the operator found.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct GCPolicyStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many caches the policy collects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched_caches: Option<i32>,
    /// The caches and their last collections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub caches: Vec<CollectedCache>,
    /// What became of the annotation `niks3.dev/run-now`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_now: Option<RunNow>,
    /// When a collection last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<String>,
    /// What is in order and what is not; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What became of the annotation `niks3.dev/run-now`.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunNow {
    /// What the annotation said.
    pub requested: String,
    /// The Job that was made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A cache and its last collection.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct CollectedCache {
    /// The cache.
    pub name: String,
    /// The CronJob that collects it.
    pub cron_job_name: String,
    /// Its last collection that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
    /// Its last comparison of bucket and database that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fsck: Option<LastFsck>,
}

/// A collection that ended.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastRun {
    /// The Job that ran it.
    pub job_name: String,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// How it ended.
    pub result: RunResult,
    /// Why it ended so, where that is more than a failure: `SafetyLimitReached`, `Aborted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it only said what it would do; the counts are of that then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<GCMode>,
    /// Unfinished uploads that were given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_uploads_deleted: Option<i64>,
    /// Closures that no rule kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closures_deleted: Option<i64>,
    /// Objects that nothing reaches any more, from now on in their grace period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects_marked: Option<i64>,
    /// Objects deleted from the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects_deleted: Option<i64>,
    /// Bytes that the deleted objects took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_freed: Option<i64>,
    /// What went wrong, or what was changed to keep the run safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a collection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunResult {
    /// It did all it was asked for.
    Succeeded,
    /// It did not.
    Failed,
}
