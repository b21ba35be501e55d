//! `spec.retention`, `spec.safety` and `spec.mode`: what is kept, and how far a collection may go.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crd::schema::{Duration, Quantity};

/// Whether a policy collects, or only says what it would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum GCMode {
    /// It collects.
    #[default]
    Enforce,
    /// It says in the status what would go, and deletes nothing.
    DryRun,
}

/// What is kept. A closure stays if any rule keeps it.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.olderThan) || has(self.maxSize) || self.pinRules.exists(r, has(r.keepLast) || has(r.maxAge))")
    .message("retention: set olderThan, maxSize, or keepLast or maxAge of a pin rule; a policy must say what it deletes").reason(Reason::FieldValueRequired))]
#[x_kube(validation = Rule::new("!has(self.olderThan) || duration(self.olderThan) >= duration('1h')")
    .message("retention.olderThan: at least 1h").field_path(".olderThan").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new("!has(self.maxSize) || (isQuantity(string(self.maxSize)) && quantity(string(self.maxSize)).isGreaterThan(quantity('0')))")
    .message("retention.maxSize: more than 0").field_path(".maxSize").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new("duration(self.failedUploadsOlderThan) >= duration('1h')")
    .message("retention.failedUploadsOlderThan: at least 1h").field_path(".failedUploadsOlderThan").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new("duration(self.deletionGrace) >= duration('0s')")
    .message("retention.deletionGrace: must be a duration").field_path(".deletionGrace").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Closures not pushed or refreshed for so long go, unless another rule keeps them. It has no default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<Duration>,
    /// The closures longest unused go until what stays takes no more than this in the bucket, such as `500Gi`.
    /// Pinned ones stay, and what is younger than `minAge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Quantity>,
    /// What was used more recently stays, whatever `maxSize` says.
    #[serde(default = "Retention::default_min_age")]
    pub min_age: Duration,
    /// What was read within so long stays. Only where the cache sees reads: `server.readProxy.mode` of the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_if_read_within: Option<Duration>,
    /// Which pins stay, by what their names begin with; the longest prefix counts. A pin without a rule stays for
    /// ever.
    #[serde(default)]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["prefix".into()]))]
    pub pin_rules: Vec<PinRule>,
    /// Uploads begun so long ago and never finished go. At least 5h5m: so long may an upload last.
    #[serde(default = "Retention::default_failed_uploads")]
    pub failed_uploads_older_than: Duration,
    /// How long an object stays in the bucket after nothing reaches it any more, so that readers in the middle
    /// of a download finish. `0s` deletes at once.
    #[serde(default = "Retention::default_deletion_grace")]
    pub deletion_grace: Duration,
}

impl Retention {
    fn default_min_age() -> Duration {
        "24h".into()
    }

    fn default_failed_uploads() -> Duration {
        "6h".into()
    }

    fn default_deletion_grace() -> Duration {
        "24h".into()
    }
}

/// Which pins stay. A name stays if `keepLast` or `maxAge` keeps it, or if neither is set.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PinRule {
    /// What the names begin with; empty means all.
    #[schemars(length(max = 256), regex(pattern = r"^[A-Za-z0-9._-]*$"))]
    pub prefix: String,
    /// So many targets of a pin that stays are kept, the current one first. 1 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub keep_revisions: Option<i32>,
    /// So many names stay, those last written first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub keep_last: Option<i32>,
    /// A name last written within so long stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
}

/// How far a collection may go. One that would go further stops before it deletes anything.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Safety {
    /// The share of the cache's objects that one collection may give up.
    #[serde(default = "Safety::default_percent")]
    #[schemars(range(min = 1, max = 100))]
    pub max_delete_percent: i32,
    /// So many objects may one collection give up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_delete_objects: Option<i64>,
}

impl Safety {
    fn default_percent() -> i32 {
        50
    }
}

impl Default for Safety {
    fn default() -> Self {
        Self { max_delete_percent: Self::default_percent(), max_delete_objects: None }
    }
}
