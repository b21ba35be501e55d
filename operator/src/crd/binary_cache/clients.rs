//! `spec.clients`: where clients find what they need.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Where clients find what they need. Beside the cache it is always the ConfigMap `NAME-client`.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Clients {
    /// The same is published in the namespaces with these labels, as ConfigMap `NAME.NAMESPACE.niks3` (pods can only
    /// mount what is in their own). An empty selector means all of them. New namespaces get it within a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
}
