//! What a run found to keep and to delete, and why.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The rule that keeps a root; of several the first in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum KeepRule {
    /// A pin points to it.
    Pin,
    /// A pin pointed to it, and a rule keeps so many revisions.
    PinRevision,
    /// A push of it is under way.
    Upload,
    /// It was pushed or refreshed within `older_than`.
    OlderThan,
    /// It was read within `keep_if_read_within`.
    KeepIfReadWithin,
    /// The policy has no `older_than`, and no pin rule gave it up.
    NoAgeLimit,
}

/// Why a root goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DropRule {
    /// It was not pushed or refreshed for `older_than`, and nothing else keeps it.
    OlderThan,
    /// A pin rule gave it up, and nothing else keeps it.
    PinRules,
    /// It is among the longest unused, and `max_size` is reached.
    MaxSize,
    /// It reaches the path that is deleted.
    Delete,
}

/// A name as it is on the wire.
fn name(value: &impl Serialize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => f.write_str(&name),
        _ => Err(fmt::Error),
    }
}

impl fmt::Display for KeepRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        name(self, f)
    }
}

impl fmt::Display for DropRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        name(self, f)
    }
}

/// Objects, and the bytes they take in the bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Amount {
    /// How many.
    pub objects: i64,
    /// Bytes in the bucket, as far as known.
    pub bytes: i64,
}

/// How many roots a rule keeps or drops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RuleCount<R> {
    /// The rule.
    pub rule: R,
    /// Roots.
    pub roots: i64,
}

/// A root, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanRoot<R> {
    /// Its key.
    pub key: String,
    /// Its store path, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_path: Option<String>,
    /// What keeps or drops it.
    pub rule: R,
    /// When it was last pushed, refreshed or read.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Instant"))]
    pub last_used: OffsetDateTime,
    /// Bytes of everything it reaches.
    pub bytes: i64,
    /// Bytes that of all roots in its table only this one reaches.
    pub unique_bytes: i64,
}

/// A pin that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanPin {
    /// Its name.
    pub name: String,
    /// What it keeps now.
    pub store_path: String,
    /// The prefix of the rule that lets it go.
    pub prefix: String,
    /// When it was last written.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Instant"))]
    pub updated_at: OffsetDateTime,
}

/// What a run found to keep and to delete. Lists have their largest entries only; counts are whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GcPlan {
    /// What the cache holds.
    pub live: Amount,
    /// What the kept roots reach.
    pub keep: Amount,
    /// What nothing reaches from now on; it is deleted after its grace period.
    pub condemn: Amount,
    /// What was condemned earlier and is still in its grace period.
    pub waiting: Amount,
    /// What this run deletes.
    pub delete: Amount,
    /// Uploads that expire.
    pub uploads_expired: i64,
    /// Roots that stay, by the rule that keeps them.
    pub kept_by: Vec<RuleCount<KeepRule>>,
    /// Closures that go, by the rule that drops them.
    pub dropped_by: Vec<RuleCount<DropRule>>,
    /// Pins that go.
    pub pins_dropped: i64,
    /// The largest roots that stay.
    pub largest_kept: Vec<PlanRoot<KeepRule>>,
    /// The largest closures that go.
    pub largest_dropped: Vec<PlanRoot<DropRule>>,
    /// Pins that go, those longest not written first.
    pub dropped_pins: Vec<PlanPin>,
    /// Of a deletion: the paths that go, or their keys where they are not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// How many these are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub paths_deleted: i64,
    /// What whoever wrote the policy may not have meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &i64) -> bool {
    *count == 0
}

impl GcPlan {
    /// The same with lists of at most so many entries.
    #[must_use]
    pub fn shortened(mut self, entries: usize) -> Self {
        self.largest_kept.truncate(entries);
        self.largest_dropped.truncate(entries);
        self.dropped_pins.truncate(entries);
        self.paths.truncate(entries);
        self.notes.truncate(entries);
        self
    }
}
