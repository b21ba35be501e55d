//! `spec.server.metrics`: how Prometheus finds the server's metrics.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crd::schema::Duration;

/// The server's metrics, at `/metrics` of its Service.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct ServerMetrics {
    /// How the prometheus-operator is told of them.
    #[serde(default)]
    pub service_monitor: WantedServiceMonitor,
}

/// A ServiceMonitor for the server.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WantedServiceMonitor {
    /// Whether there is one. It needs the CRDs of the prometheus-operator; the condition `Monitored` says so where they
    /// are missing. With `networkPolicy`, let Prometheus in by `ingressFrom`.
    #[serde(default)]
    pub mode: ServiceMonitorMode,
    /// What Prometheus looks for, such as `release: kube-prometheus-stack`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
    /// How often Prometheus asks.
    #[serde(default = "WantedServiceMonitor::default_interval")]
    pub interval: Duration,
}

impl WantedServiceMonitor {
    fn default_interval() -> Duration {
        "30s".into()
    }
}

impl Default for WantedServiceMonitor {
    fn default() -> Self {
        Self {
            mode: ServiceMonitorMode::default(),
            labels: BTreeMap::new(),
            interval: Self::default_interval(),
        }
    }
}

/// Whether there is a ServiceMonitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum ServiceMonitorMode {
    /// There is none.
    #[default]
    Disabled,
    /// There is one.
    Enabled,
}
