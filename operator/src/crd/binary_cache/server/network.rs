//! `spec.server.networkPolicy`: who may speak to the cache's pods, and to whom they speak.

use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyPeer};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// NetworkPolicies for the server, the embedded servers and the collector. They have an effect where the
/// cluster's network enforces them.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct ServerNetworkPolicy {
    /// `Enabled`: pods speak to what they need and to nothing else. `Disabled`: to everything.
    #[serde(default)]
    pub mode: NetworkPolicyMode,
    /// Who reaches the server and the embedded S3 server, which clients upload to: pods, namespaces or address
    /// ranges. Empty means everybody. The collector is always let in; let the operator's namespace in too, or it
    /// only knows what the pods' readiness says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub ingress_from: Vec<NetworkPolicyPeer>,
    /// Whom the server may speak to besides name servers, the API server, database and S3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub extra_egress: Vec<NetworkPolicyEgressRule>,
}

/// Whether there are NetworkPolicies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum NetworkPolicyMode {
    /// There are none.
    #[default]
    Disabled,
    /// There are.
    Enabled,
}
