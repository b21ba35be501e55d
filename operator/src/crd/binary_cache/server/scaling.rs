//! `spec.server.autoscaling`: as many pods as the load asks for.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A HorizontalPodAutoscaler by CPU. It needs the cluster's metrics server.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas")
    .message("autoscaling: minReplicas must not be more than maxReplicas").field_path(".minReplicas").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// At least so many pods.
    #[serde(default = "Autoscaling::default_min_replicas")]
    #[schemars(range(min = 1, max = 100))]
    pub min_replicas: i32,
    /// At most so many.
    #[schemars(range(min = 1, max = 100))]
    pub max_replicas: i32,
    /// More pods are made when they use more than this share of the CPU they requested.
    #[serde(default = "Autoscaling::default_target", rename = "targetCPUUtilizationPercentage")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu_utilization_percentage: i32,
}

impl Autoscaling {
    fn default_min_replicas() -> i32 {
        2
    }

    fn default_target() -> i32 {
        80
    }
}
