//! Garbage collection. (`POST /api/gc`, `DELETE /api/closures`, `GET /api/gc/status`)

pub mod plan;
pub mod policy;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::duration::GoDuration;
use crate::nix::StorePathHash;

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GcState {
    /// At work.
    Running,
    /// Done.
    Succeeded,
    /// Ended early; see [`GcStatus::error`].
    Failed,
}

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GcPhase {
    /// Deleting expired uploads.
    CleanupPendingUploads,
    /// Deleting closures that no rule keeps.
    CleanupOldClosures,
    /// Marking, and deleting what nothing reaches.
    CleanupOrphanObjects,
    /// Giving space back.
    VacuumTables,
}

/// Why a run failed, where somebody may want to act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum GcReason {
    /// The plan would delete more than the policy allows; nothing was deleted.
    SafetyLimitReached,
    /// Somebody ended it.
    Aborted,
    /// Pins or pushes under way hold what was to be deleted; nothing was.
    Held,
}

/// What a run is to keep: the body of `POST /api/gc`. niks3 1.7 knows `older_than`, `failed_uploads_older_than`
/// and `force`, as parameters of `DELETE /api/closures`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GcParams {
    /// Closures not pushed or refreshed for so long go, unless another rule keeps them. Without it, age alone
    /// lets nothing go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<GoDuration>,
    /// Uploads begun so long ago go; never before their addresses have ended.
    #[serde(default = "GcParams::default_failed_uploads")]
    pub failed_uploads_older_than: GoDuration,
    /// Delete at once what nothing reaches, without a grace period.
    #[serde(default)]
    pub force: bool,
    /// How long an object stays after the last closure that reached it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_grace: Option<GoDuration>,
    /// Bytes in the bucket: the closures longest not used go until what is kept fits, never a pinned one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// What was used more recently than this stays, whatever `max_size` says; 24h where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_age: Option<GoDuration>,
    /// What was read through the server within so long stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_if_read_within: Option<GoDuration>,
    /// Which pins stay, and how many of their earlier targets. Of a name's rules that with the longest prefix
    /// counts; a name without a rule stays for ever.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pin_rules: Vec<policy::PinRule>,
    /// The run stops before it deletes anything, where more of the live objects would go: 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_delete_percent: Option<u32>,
    /// The run stops before it deletes anything, where more live objects would go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_delete_objects: Option<u64>,
    /// Only say what would go, and why; change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// No policy: this path goes, all that depends on it, and what only these reach. Set by `POST
    /// /api/paths/{hash}/delete` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete: Option<Delete>,
}

/// What a deletion is to do: the body of `POST /api/paths/{hash}/delete`, and the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Delete {
    /// The path.
    pub hash: StorePathHash,
    /// Pins that keep it are dropped, and pushes under way that have it are ended.
    #[serde(default)]
    pub force: bool,
}

/// `POST /api/paths/{hash}/delete`; the answer is the run, as of `POST /api/gc`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeleteRequest {
    /// Only say what would go.
    #[serde(default)]
    pub dry_run: bool,
    /// As [`Delete::force`].
    #[serde(default)]
    pub force: bool,
}

impl GcParams {
    /// What niks3 1.7 takes where it is left out.
    pub const fn default_failed_uploads() -> GoDuration {
        GoDuration::hours(6)
    }
}

/// What a run did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GcStats {
    /// Uploads expired.
    pub failed_uploads_deleted: i64,
    /// Closures no rule kept.
    pub old_closures_deleted: i64,
    /// Objects newly condemned.
    pub objects_marked_for_deletion: i64,
    /// Objects deleted from the bucket.
    pub objects_deleted_after_grace_period: i64,
    /// Objects the bucket refused to delete, or gave no answer for.
    pub objects_failed_to_delete: i64,
    /// Bytes the deleted objects took in the bucket, as far as known.
    #[serde(default)]
    pub bytes_freed: i64,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GcStatus {
    /// The run's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// How it stands.
    pub state: GcState,
    /// What it is doing, or did last.
    pub phase: GcPhase,
    /// What it was asked for.
    pub params: GcParams,
    /// What it did so far.
    pub stats: GcStats,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why it failed, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<GcReason>,
    /// What it found to keep and to delete; not while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Box<plan::GcPlan>>,
    /// What was changed about the request to keep it safe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Instant"))]
    pub started_at: OffsetDateTime,
    /// When it last made progress.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Instant"))]
    pub updated_at: OffsetDateTime,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Instant>"))]
    pub finished_at: Option<OffsetDateTime>,
}

/// The answer 409: another run, with other parameters, is active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GcConflict {
    /// One sentence.
    pub error: String,
    /// The active run.
    pub active_task: GcStatus,
}
