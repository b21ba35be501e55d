//! Comparing the bucket with the rows. (`POST /api/fsck`)

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::gc::policy::{PolicyError, check_safety};
use super::gc::{GcReason, GcState};

/// What is done about what differs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FsckMode {
    /// It is told.
    #[default]
    Check,
    /// What was lost counts as not pushed, so that the next push sends it again, and narinfos that lead there are
    /// withdrawn; objects that no push committed are deleted.
    Repair,
}

/// What a run is to do: the body of `POST /api/fsck`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FsckParams {
    /// What is done about what differs.
    #[serde(default)]
    pub mode: FsckMode,
    /// Read every NAR and compare its hash.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deep: bool,
    /// Nothing is repaired where more of the objects differ: 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_delete_percent: Option<u32>,
    /// Nothing is repaired where more objects differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_delete_objects: Option<u64>,
}

impl FsckParams {
    /// Whether it can be carried out, whatever the cache.
    pub fn check(&self) -> Result<(), PolicyError> {
        check_safety(self.max_delete_percent, self.max_delete_objects)
    }
}

/// What a run compared and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct FsckSummary {
    /// Objects listed.
    pub objects: u64,
    /// Rows read.
    pub rows: u64,
    /// Live rows whose object is not in the bucket.
    pub missing: u64,
    /// Live rows whose object has another size than was seen.
    pub other_size: u64,
    /// Objects without a row.
    pub without_row: u64,
    /// Objects without a row that a push may be about to commit.
    pub young: u64,
    /// Objects that a cache has no such key for; they are nobody's business.
    pub foreign: u64,
    /// Narinfos and realisations that were made rows of.
    pub adopted: u64,
    /// What could not be: it, or what it reaches, is not whole. And what a repair could not finish.
    pub incomplete: u64,
    /// Pins that were made rows of.
    pub pins: u64,
    /// NARs that were read.
    pub nars_read: u64,
    /// NARs that hold something else than was committed.
    pub damaged: u64,
    /// Findings that were repaired.
    pub repaired: u64,
    /// Objects without a row that were deleted.
    pub deleted: u64,
    /// Narinfos that lead to what was lost, and were deleted.
    pub withdrawn: u64,
    /// Closures that reach what was lost: they count as not pushed.
    pub incomplete_closures: u64,
}

impl FsckSummary {
    /// What is not as it should be, repaired or not.
    pub fn findings(&self) -> u64 {
        self.missing + self.other_size + self.without_row + self.incomplete + self.damaged
    }

    /// Whether everything is as it should be, now that it was repaired.
    pub fn is_clean(&self) -> bool {
        self.findings() <= self.repaired
    }
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FsckFinding {
    /// `missing`, `other_size`, `damaged`, `without_row` or `incomplete`.
    pub kind: String,
    /// The object.
    pub key: String,
    /// One sentence.
    pub detail: String,
}

/// What a run is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FsckPhase {
    /// Reading both listings.
    #[default]
    Compare,
    /// The same once more, repairing what differs.
    Repair,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FsckStatus {
    /// The run's number.
    pub id: i64,
    /// How it stands; `succeeded` is compared to the end, whatever was found.
    pub state: GcState,
    /// What it is doing, or did last.
    pub phase: FsckPhase,
    /// What it was asked for.
    pub params: FsckParams,
    /// What it compared and found so far.
    pub summary: FsckSummary,
    /// The first of what it found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<FsckFinding>,
    /// Everything up to this key is compared; a run that failed is gone on with from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why it failed, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<GcReason>,
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
pub struct FsckConflict {
    /// One sentence.
    pub error: String,
    /// The active run.
    pub active_task: FsckStatus,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repaired_is_clean() {
        let found = FsckSummary { missing: 2, without_row: 1, ..FsckSummary::default() };
        assert!(!found.is_clean() && found.findings() == 3);
        assert!(FsckSummary { repaired: 3, ..found }.is_clean());
    }

    #[test]
    fn limits_that_mean_nothing_are_refused() {
        let with = |percent, objects| FsckParams {
            max_delete_percent: percent,
            max_delete_objects: objects,
            ..FsckParams::default()
        };
        assert_eq!(with(Some(100), Some(1)).check(), Ok(()));
        for bad in [with(Some(0), None), with(Some(101), None), with(None, Some(0))] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
