//! CAs of servers that the cache's server speaks to.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::labels;

/// CAs as PEM, in a ConfigMap or a Secret.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("[has(self.configMapKeyRef), has(self.secretKeyRef)].exists_one(x, x)")
    .message("ca: set exactly one of configMapKeyRef and secretKeyRef").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct CaSource {
    /// A ConfigMap in the cache's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<CaKeyRef>,
    /// A Secret in the cache's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<CaKeyRef>,
}

/// One key of a ConfigMap or Secret.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaKeyRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key within it.
    #[serde(default = "CaKeyRef::default_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

impl CaKeyRef {
    fn default_key() -> String {
        labels::CA_FILE.to_owned()
    }
}

/// Revocation lists as PEM, in a ConfigMap or a Secret.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("[has(self.configMapKeyRef), has(self.secretKeyRef)].exists_one(x, x)")
    .message("crl: set exactly one of configMapKeyRef and secretKeyRef").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct CrlSource {
    /// A ConfigMap in the cache's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<CrlKeyRef>,
    /// A Secret in the cache's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<CrlKeyRef>,
}

/// One key of a ConfigMap or Secret.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CrlKeyRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key within it.
    #[serde(default = "CrlKeyRef::default_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

impl CrlKeyRef {
    fn default_key() -> String {
        labels::CRL_FILE.to_owned()
    }
}

/// Where they are, they are found in the same way.
impl From<&CrlSource> for CaSource {
    fn from(source: &CrlSource) -> Self {
        let same = |at: &CrlKeyRef| CaKeyRef { name: at.name.clone(), key: at.key.clone() };
        Self {
            config_map_key_ref: source.config_map_key_ref.as_ref().map(same),
            secret_key_ref: source.secret_key_ref.as_ref().map(same),
        }
    }
}
