//! Garbage collection. (`DELETE /api/closures`, `GET /api/gc/status`)

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::duration::GoDuration;

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// The parameters a run was started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcParams {
    /// Closures not pushed or refreshed for so long go, unless pinned.
    pub older_than: GoDuration,
    /// Uploads begun so long ago go; raised to what is safe where it is shorter.
    pub failed_uploads_older_than: GoDuration,
    /// Delete at once what nothing reaches, without a grace period.
    pub force: bool,
    /// How long an object stays after the last closure that reached it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_grace: Option<GoDuration>,
}

/// What a run did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What was changed about the request to keep it safe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// When it last made progress.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
}

/// The answer 409: another run, with other parameters, is active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcConflict {
    /// One sentence.
    pub error: String,
    /// The active run.
    pub active_task: GcStatus,
}
