//! `spec.storage.s3.credentials`: how the server proves to S3 who it is.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// How the server proves to S3 who it is.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[x_kube(validation = Rule::new("[has(self.secretRef), has(self.workloadIdentity)].exists_one(x, x)")
    .message("credentials: set exactly one of secretRef and workloadIdentity").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct S3Credentials {
    /// A Secret with an access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<S3SecretRef>,
    /// No secret at all: the pods are known to the cloud by their ServiceAccount (IRSA and Pod Identity of EKS, or
    /// any web identity whose file `server.podTemplate` mounts).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadIdentity>,
}

/// Which ServiceAccount the cloud knows. Left empty, it is `NAME`, which the operator makes.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[x_kube(validation = Rule::new("!has(self.serviceAccountName) || !has(self.serviceAccountAnnotations)")
    .message("workloadIdentity: set serviceAccountName or serviceAccountAnnotations; a ServiceAccount of your own has its own annotations")
    .reason(Reason::FieldValueForbidden))]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIdentity {
    /// A ServiceAccount of your own in the cache's namespace, which the pods run as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Annotations of the ServiceAccount that the operator makes, such as `eks.amazonaws.com/role-arn`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub service_account_annotations: BTreeMap<String, String>,
}

/// A Secret with an access key.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct S3SecretRef {
    /// The Secret's name, in the cache's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key within the Secret that holds the access key id.
    #[serde(default = "S3SecretRef::default_access_key_id_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub access_key_id_key: String,
    /// The key within the Secret that holds the secret access key.
    #[serde(default = "S3SecretRef::default_secret_access_key_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub secret_access_key_key: String,
    /// The key within the Secret that holds the session token of an access key that ends, as STS gives them. Whoever writes
    /// the Secret replaces all three before that: pods take them within two minutes, without a restart. Upload addresses
    /// end with what signed them. Left out, the access key has no token, and another one makes new pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub session_token_key: Option<String>,
}

impl S3SecretRef {
    fn default_access_key_id_key() -> String {
        "AWS_ACCESS_KEY_ID".to_owned()
    }

    fn default_secret_access_key_key() -> String {
        "AWS_SECRET_ACCESS_KEY".to_owned()
    }
}
