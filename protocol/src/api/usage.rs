//! Why a path is there, and what takes the space. (`GET /api/paths/{hash}/why`, `GET /api/usage`)

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::gc::plan::{Amount, DropRule, KeepRule};

/// How an object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// A push has promised it, and it was not seen in the bucket yet.
    Expected,
    /// It is in the bucket.
    Live,
    /// A collection is deleting it.
    Deleting,
}

/// `GET /api/paths/{hash}/why`: what keeps a path, by the policy of the last collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Why {
    /// Key of its narinfo.
    pub key: String,
    /// The path, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_path: Option<String>,
    /// How it stands.
    pub standing: Standing,
    /// Since when nothing reaches it, where a collection has found that.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Instant>"))]
    pub condemned_at: Option<OffsetDateTime>,
    /// The collection by whose policy this was judged; without one, nothing lets a closure go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_of_run: Option<i64>,
    /// Bytes of everything it reaches.
    pub bytes: i64,
    /// Roots that reach it.
    pub roots_count: i64,
    /// Those, the ones that stay first, then those nearest.
    pub roots: Vec<WhyRoot>,
    /// Pushes under way that have it.
    pub uploads: i64,
    /// When a collection may first delete it, were nothing pushed, read or pinned until then; without it, something
    /// keeps it that does not end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Instant>"))]
    pub goes_at: Option<OffsetDateTime>,
}

/// A root that reaches a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WhyRoot {
    /// Its key.
    pub key: String,
    /// Its store path, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_path: Option<String>,
    /// The rule that keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_by: Option<KeepRule>,
    /// The rule that lets it go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_by: Option<DropRule>,
    /// Pins that point to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<String>,
    /// When it was last pushed, refreshed or read.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Instant"))]
    pub last_used: OffsetDateTime,
    /// Until when its rule keeps it; without it, until somebody changes something.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Instant>"))]
    pub until: Option<OffsetDateTime>,
    /// A shortest way from it to the path, both left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<String>,
}

/// `GET /api/usage?limit=20`: what takes the space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Usage {
    /// What the cache holds.
    pub live: Amount,
    /// What committed closures reach.
    pub reached: Amount,
    /// What nothing reaches: collections delete it.
    pub unreached: Amount,
    /// Committed closures.
    pub closures: i64,
    /// Those of which the most bytes would go with them alone.
    pub largest: Vec<UsageRoot>,
}

/// A closure, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UsageRoot {
    /// Its key.
    pub key: String,
    /// Its store path, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_path: Option<String>,
    /// Pins that point to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<String>,
    /// When it was last pushed or refreshed.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Instant"))]
    pub updated_at: OffsetDateTime,
    /// Bytes of everything it reaches.
    pub bytes: i64,
    /// Bytes that no other closure reaches.
    pub unique_bytes: i64,
}
