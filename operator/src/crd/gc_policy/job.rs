//! `spec.job` and how collections are begun.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crd::schema::Resources;

/// What becomes of a collection that is due while another one runs. There is no `Allow`: the server runs one
/// collection at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum ConcurrencyPolicy {
    /// It is left out.
    #[default]
    Forbid,
    /// It takes the place of the one that runs; what that one has done stays done.
    Replace,
}

impl ConcurrencyPolicy {
    /// As a CronJob spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forbid => "Forbid",
            Self::Replace => "Replace",
        }
    }
}

/// How the Jobs run. They start a collection in the server and wait for it, so they need little.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobOptions {
    /// CPU and memory.
    #[serde(default = "JobOptions::default_resources")]
    pub resources: Resources,
    /// A Job that takes longer, in seconds, is ended. The server finishes the collection all the same.
    #[serde(default = "JobOptions::default_active_deadline")]
    #[schemars(range(min = 60, max = 604_800))]
    pub active_deadline_seconds: i64,
    /// How often a Job tries again. A wrong configuration or a missing permission is not tried again.
    #[serde(default = "JobOptions::default_backoff_limit")]
    #[schemars(range(min = 0, max = 10))]
    pub backoff_limit: i32,
    /// A Job that ended is deleted after so many seconds. What it did stays in the status.
    #[serde(default = "JobOptions::default_ttl")]
    #[schemars(range(min = 300, max = 2_592_000))]
    pub ttl_seconds_after_finished: i32,
    /// Only on nodes with these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,
    /// Also on nodes with these taints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
}

impl JobOptions {
    fn default_resources() -> Resources {
        Resources::new("50m", "64Mi", "128Mi")
    }

    fn default_active_deadline() -> i64 {
        21_600
    }

    fn default_backoff_limit() -> i32 {
        2
    }

    fn default_ttl() -> i32 {
        86_400
    }
}

impl Default for JobOptions {
    fn default() -> Self {
        Self {
            resources: Self::default_resources(),
            active_deadline_seconds: Self::default_active_deadline(),
            backoff_limit: Self::default_backoff_limit(),
            ttl_seconds_after_finished: Self::default_ttl(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
        }
    }
}
