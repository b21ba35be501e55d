//! `spec.server.tls`: TLS of the server's own.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::crd::schema::Duration;

/// Where the certificate comes from. It has to be valid for `NAME.NAMESPACE.svc`, by which collections reach the server.
/// A renewed certificate is served without a restart.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("[has(self.secretName), has(self.certManager)].exists_one(x, x)")
    .message("tls: set exactly one of secretName and certManager").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct ServerTls {
    /// A Secret of the type `kubernetes.io/tls`. Where its CA is none that everybody knows, `ca.crt` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
    /// cert-manager makes it, in the Secret `NAME-tls`, for the address inside the cluster and the host of `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_manager: Option<CertManager>,
}

/// How cert-manager is asked.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.duration) || duration(self.duration) >= duration('1h')")
    .message("duration: at least 1h").field_path(".duration").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct CertManager {
    /// Who signs it.
    pub issuer_ref: IssuerRef,
    /// How long it is valid. Left out, cert-manager decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
}

/// An issuer of cert-manager.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its kind: `Issuer` in the cache's namespace, `ClusterIssuer`, or one of another project.
    #[serde(default = "IssuerRef::default_kind")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// The API group of its kind, where it is no kind of cert-manager's own.
    #[serde(default = "IssuerRef::default_group")]
    #[schemars(length(min = 1, max = 253))]
    pub group: String,
}

impl IssuerRef {
    fn default_kind() -> String {
        "Issuer".to_owned()
    }

    fn default_group() -> String {
        "cert-manager.io".to_owned()
    }
}
