//! `spec.fsck`: comparing the bucket with the database.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is done about what differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum FsckMode {
    /// It is told, in the status and by an event.
    #[default]
    Check,
    /// What was lost counts as not pushed, so that the next push sends it again, and narinfos that lead there are
    /// withdrawn; objects that no push committed are deleted. Never more than `safety` allows.
    Repair,
}

/// When the bucket is compared with the database. In the policy's time zone, and by Jobs like those of collections.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!self.schedule.contains('TZ')")
    .message("fsck.schedule: has no time zone; use timeZone").field_path(".schedule").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct Fsck {
    /// When, as five fields of cron, or `@weekly` and the like.
    #[schemars(length(min = 1, max = 128))]
    pub schedule: String,
    /// What is done about what differs.
    #[serde(default)]
    pub mode: FsckMode,
    /// Every NAR is read too and its hash compared: that takes as long as it takes to read the whole bucket.
    #[serde(default)]
    pub deep: bool,
}

/// A comparison that ended.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastFsck {
    /// The Job that ran it.
    pub job_name: String,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// How it ended.
    pub result: FsckResult,
    /// Why it failed, where that is more than a failure: `SafetyLimitReached`, `Aborted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Objects that the bucket lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<i64>,
    /// What was not as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<i64>,
    /// What of that was repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired: Option<i64>,
    /// The first findings, or what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a comparison ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FsckResult {
    /// Everything is as it should be, or was repaired.
    Clean,
    /// Something is not as it should be.
    Damaged,
    /// It could not be compared.
    Failed,
}
