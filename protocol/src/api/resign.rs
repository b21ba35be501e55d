//! Signing stored narinfos again when the keys changed. (`GET /api/resign`)

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::gc::GcState;

/// What a run brings narinfos in line with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ResignParams {
    /// The public keys whose signature each narinfo is to have, in their order.
    pub keys: Vec<String>,
    /// Those whose signatures are taken away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<String>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ResignCounts {
    /// Narinfos there were when it began.
    pub total: u64,
    /// Narinfos that are as they should be, or were looked at and are not to be changed.
    pub done: u64,
    /// Of those, written anew.
    pub signed: u64,
    /// Looked at and not yet written: somebody else writes them, or an answer of S3 was lost.
    pub left: u64,
    /// What S3 refused to write.
    pub failed: u64,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResignStatus {
    /// The run's number.
    pub id: i64,
    /// How it stands.
    pub state: GcState,
    /// What it brings narinfos in line with.
    #[serde(flatten)]
    pub params: ResignParams,
    /// How far it is.
    #[serde(flatten)]
    pub counts: ResignCounts,
    /// Narinfos still to be looked at.
    pub remaining: u64,
    /// Why it failed; it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it began; that of the run which it goes on with.
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
