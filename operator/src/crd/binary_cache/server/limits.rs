//! `spec.server.limits`: how much callers may ask for.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// How much callers may ask for. Who asks for more gets 429 with `Retry-After`, which clients obey.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerLimits {
    /// Calls that one identity may make in a second, in the long run and of each pod; 0 is any number.
    #[serde(default = "ServerLimits::default_rate")]
    #[schemars(range(min = 0, max = 100_000))]
    pub calls_per_second: i32,
    /// Calls that it may make at once after a pause.
    #[serde(default = "ServerLimits::default_burst")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub calls_burst: i32,
}

impl ServerLimits {
    fn default_rate() -> i32 {
        500
    }

    fn default_burst() -> i32 {
        5000
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self { calls_per_second: Self::default_rate(), calls_burst: Self::default_burst() }
    }
}
