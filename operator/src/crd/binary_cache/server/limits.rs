//! `spec.server.limits`: how much callers may ask for.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::crd::schema::{Duration, Quantity};

/// How much callers may ask for. Who asks for more gets 429 with `Retry-After`, which clients obey, or 413 where one call is
/// too large.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("duration(self.callTimeout) >= duration('1s') && duration(self.callTimeout) <= duration('1h')")
    .message("callTimeout: from 1s to 1h").field_path(".callTimeout").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new(
    "isQuantity(string(self.closureBodySize)) && !quantity(string(self.closureBodySize)).isLessThan(quantity('1Mi')) && !quantity(string(self.closureBodySize)).isGreaterThan(quantity('1Gi'))"
).message("closureBodySize: from 1Mi to 1Gi").field_path(".closureBodySize").reason(Reason::FieldValueInvalid))]
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
    /// How long a call may take: 503 after that.
    #[serde(default = "ServerLimits::default_call_timeout")]
    pub call_timeout: Duration,
    /// Uploads under way, on all pods; 0 is any number. One that was given up counts until its addresses end.
    #[serde(default = "ServerLimits::default_open_uploads")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub open_uploads: i32,
    /// The same, of one identity.
    #[serde(default = "ServerLimits::default_open_uploads_per_identity")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub open_uploads_per_identity: i32,
    /// Objects of one upload.
    #[serde(default = "ServerLimits::default_objects_per_upload")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub objects_per_upload: i32,
    /// Narinfos of one call that signs.
    #[serde(default = "ServerLimits::default_paths_per_sign")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub paths_per_sign: i32,
    /// The body of a call that lists a closure; half a million objects take 128Mi. Pods need as much memory.
    #[serde(default = "ServerLimits::default_closure_body_size")]
    pub closure_body_size: Quantity,
}

impl ServerLimits {
    fn default_rate() -> i32 {
        500
    }

    fn default_burst() -> i32 {
        5000
    }

    fn default_call_timeout() -> Duration {
        "10m".into()
    }

    fn default_open_uploads() -> i32 {
        10_000
    }

    fn default_open_uploads_per_identity() -> i32 {
        1000
    }

    fn default_objects_per_upload() -> i32 {
        500_000
    }

    fn default_paths_per_sign() -> i32 {
        250_000
    }

    fn default_closure_body_size() -> Quantity {
        "128Mi".into()
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            calls_per_second: Self::default_rate(),
            calls_burst: Self::default_burst(),
            call_timeout: Self::default_call_timeout(),
            open_uploads: Self::default_open_uploads(),
            open_uploads_per_identity: Self::default_open_uploads_per_identity(),
            objects_per_upload: Self::default_objects_per_upload(),
            paths_per_sign: Self::default_paths_per_sign(),
            closure_body_size: Self::default_closure_body_size(),
        }
    }
}
