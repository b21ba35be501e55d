//! `spec.server.networkPolicy`: who may speak to the cache's pods, and to whom they speak.

use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyPeer};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// NetworkPolicies for the server, the embedded servers and the collector. They have an effect where the
/// cluster's network enforces them. The embedded PostgreSQL lets in the server alone.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct ServerNetworkPolicy {
    /// `Enabled`: pods speak to what they need and to nothing else. `Disabled`: to everything.
    #[serde(default)]
    pub mode: NetworkPolicyMode,
    /// Who reaches the server and the embedded S3 server, which clients upload to: pods, namespaces or address
    /// ranges, such as CI, the Ingress controller or Gateway, and Prometheus. Empty means everybody. The collector and
    /// the operator (`app.kubernetes.io/name: niks3-operator` in its namespace) are always let in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub ingress_from: Vec<NetworkPolicyPeer>,
    /// Whom the server may speak to besides name servers, the API server, database and S3. Most networks look at the
    /// ports of pods: where a Service leads to another port than its own, such as one for a database or S3, name it here.
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
