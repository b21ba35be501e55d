//! `spec.server.service`: the server's address.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Service before the server's pods. It has the cache's name and listens on port 80.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[x_kube(validation = Rule::new("!has(self.loadBalancerClass) || self.type == 'LoadBalancer'")
    .message("loadBalancerClass: only with type: LoadBalancer").field_path(".loadBalancerClass").reason(Reason::FieldValueForbidden))]
#[x_kube(validation = Rule::new(
    "self.type != 'LoadBalancer' || oldSelf.type != 'LoadBalancer' || (has(self.loadBalancerClass) == has(oldSelf.loadBalancerClass) && (!has(self.loadBalancerClass) || self.loadBalancerClass == oldSelf.loadBalancerClass))"
).message("loadBalancerClass: cannot be changed while type is LoadBalancer").field_path(".loadBalancerClass").reason(Reason::FieldValueForbidden))]
#[serde(rename_all = "camelCase")]
pub struct ServerService {
    /// How it is reached: inside the cluster alone, through a port of every node, or through a load balancer.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// What the cluster's load balancer wants to know.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
    /// Which load balancer. Left out, it is the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub load_balancer_class: Option<String>,
}

/// How a Service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum ServiceType {
    /// Inside the cluster alone.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// Through a port of every node.
    NodePort,
    /// Through a load balancer.
    LoadBalancer,
}

impl ServiceType {
    /// As the Kubernetes API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}
