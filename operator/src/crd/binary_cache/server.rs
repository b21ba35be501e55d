//! `spec.server`: how the server runs.

mod exposure;
mod limits;
mod metrics;
mod network;
mod scaling;
mod scheduling;
mod service;
mod tls;
mod transfers;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::crd::schema::Resources;

pub use exposure::{ParentRef, ServerHttpRoute, ServerIngress};
pub use limits::ServerLimits;
pub use metrics::{ServerMetrics, ServiceMonitorMode, WantedServiceMonitor};
pub use network::{NetworkPolicyMode, ServerNetworkPolicy};
pub use scaling::Autoscaling;
pub use scheduling::{DisruptionBudget, DisruptionMode, Scheduling};
pub use service::{ServerService, ServiceType};
pub use tls::{CertManager, IssuerRef, ServerTls};
pub use transfers::{BoundAddresses, ReadProxy, ReadProxyMode, Uploads, VerifyUploads};

/// How the server runs.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new(
    "!has(self.autoscaling) || (has(self.resources.requests) && 'cpu' in self.resources.requests) || (has(self.resources.limits) && 'cpu' in self.resources.limits)"
).message("autoscaling: needs resources.requests.cpu, which it measures against").field_path(".autoscaling").reason(Reason::FieldValueRequired))]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// How many pods. Any number may serve one cache; two or more survive the loss of a node and get a
    /// PodDisruptionBudget. `kubectl scale` changes it too. With `autoscaling` it has no meaning.
    #[serde(default = "Server::default_replicas")]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: i32,

    /// The image. Left out, it is the one the operator was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// When the image is pulled. Left out, Kubernetes decides by the image's tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,

    /// Secrets to pull images with, of embedded servers and the collector too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<PullSecret>,

    /// CPU and memory.
    #[serde(default = "Server::default_resources")]
    pub resources: Resources,

    /// Whether the server serves what the cache holds.
    #[serde(default)]
    pub read_proxy: ReadProxy,

    /// What clients upload.
    #[serde(default)]
    pub uploads: Uploads,

    /// How much callers may ask for.
    #[serde(default)]
    pub limits: ServerLimits,

    /// Where the pods run.
    #[serde(default)]
    pub scheduling: Scheduling,

    /// TLS of the server's own, on port 443 of its Service in place of 80. An Ingress then has to speak HTTPS to it
    /// (ingress-nginx: `nginx.ingress.kubernetes.io/backend-protocol: HTTPS`), a Gateway is told so
    /// by a BackendTLSPolicy, where the cluster has that kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,

    /// The address inside the cluster, or outside of it.
    #[serde(default)]
    pub service: ServerService,

    /// A way in from outside, by an Ingress. Pushes have large bodies; ingress-nginx wants the annotation
    /// `nginx.ingress.kubernetes.io/proxy-body-size: "0"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<ServerIngress>,

    /// A way in from outside, by the Gateway API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_route: Option<ServerHttpRoute>,

    /// As many pods as the load asks for, in place of `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,

    /// Who may speak to the pods, and to whom they speak.
    #[serde(default)]
    pub network_policy: ServerNetworkPolicy,

    /// How many pods may be away at a time while nodes are drained.
    #[serde(default)]
    pub pod_disruption_budget: DisruptionBudget,

    /// How Prometheus finds the server's metrics.
    #[serde(default)]
    pub metrics: ServerMetrics,

    /// A pod template (`metadata`, `spec`) that is merged into the operator's at the end, for what has no field here: a
    /// sidecar, a volume, a variable. Lists that have names (`containers`, `env`, `volumes`) are merged by them; the
    /// server's container is `server`. What is no pod template is named in the condition `Accepted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::crd::schema::raw_object")]
    pub pod_template: Option<Value>,
}

impl Server {
    fn default_replicas() -> i32 {
        2
    }

    fn default_resources() -> Resources {
        Resources::new("100m", "128Mi", "512Mi")
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            replicas: Self::default_replicas(),
            image: None,
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            resources: Self::default_resources(),
            read_proxy: ReadProxy::default(),
            uploads: Uploads::default(),
            limits: ServerLimits::default(),
            scheduling: Scheduling::default(),
            tls: None,
            service: ServerService::default(),
            ingress: None,
            http_route: None,
            autoscaling: None,
            network_policy: ServerNetworkPolicy::default(),
            pod_disruption_budget: DisruptionBudget::default(),
            metrics: ServerMetrics::default(),
            pod_template: None,
        }
    }
}

/// A Secret of the type `kubernetes.io/dockerconfigjson` in the cache's namespace.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullSecret {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// At each start of a pod.
    Always,
    /// Where the node does not have it.
    IfNotPresent,
    /// Never; the node must have it.
    Never,
}

impl PullPolicy {
    /// As the Kubernetes API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}
