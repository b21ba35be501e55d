//! `spec.server.scheduling` and `spec.server.podDisruptionBudget`: where pods run and when they may be moved.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the server's pods run. Embedded servers run where their volumes are.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Only on nodes with these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,
    /// Also on nodes with these taints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// Near what, and far from what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How pods are spread. Left out, over hosts and zones as far as that is possible; an empty list does not
    /// spread at all. A constraint without `labelSelector` is about the server's own pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// The PriorityClass: who has to go when there is too little room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

/// How many pods may be away at a time while nodes are drained.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new(
    "type(self.maxUnavailable) == string ? self.maxUnavailable.matches('^([1-9][0-9]?|100)%$') : self.maxUnavailable >= 1"
).message("maxUnavailable: a number of pods from 1, or a share from 1% to 100%; less would keep nodes from being drained")
 .field_path(".maxUnavailable").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct DisruptionBudget {
    /// `Auto`: a PodDisruptionBudget where there are two pods or more. `Disabled`: none.
    #[serde(default)]
    pub mode: DisruptionMode,
    /// How many pods may be away at a time, as a number or a share such as `25%`.
    #[serde(default = "DisruptionBudget::default_max_unavailable")]
    #[schemars(extend("maxLength" = 4))]
    pub max_unavailable: IntOrString,
}

impl DisruptionBudget {
    fn default_max_unavailable() -> IntOrString {
        IntOrString::Int(1)
    }
}

impl Default for DisruptionBudget {
    fn default() -> Self {
        Self { mode: DisruptionMode::default(), max_unavailable: Self::default_max_unavailable() }
    }
}

/// Whether there is a PodDisruptionBudget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum DisruptionMode {
    /// With two pods or more.
    #[default]
    Auto,
    /// Never.
    Disabled,
}
