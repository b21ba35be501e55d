//! `status` of a `GCPolicy`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GCMode, LastFsck};

/// What the operator found.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct GCPolicyStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many caches the policy collects: those in `caches`, but for any that cannot be collected now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched_caches: Option<i32>,
    /// The caches, when each is collected next and what its last collection did. A cache that another policy has is not
    /// among them.
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
    /// The Job that was made for it, where `cacheRef` names the cache. Those of several caches are in `caches`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The caches that the policy had then, and what became of it for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub caches: Vec<RunNowCache>,
}

/// What became of the annotation `niks3.dev/run-now` for a cache.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunNowCache {
    /// The cache.
    pub name: String,
    /// The Job that was made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// Why there is none. It is made once nothing stands in its way, until `startingDeadlineSeconds` are over.
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
    /// When it is collected next. Absent while that is suspended, and where the schedule is `@every`, of which only the
    /// CronJob knows when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run: Option<String>,
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
