//! `spec.auth`: who may do what.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClientCertificates, OidcIssuer, SecretKeyRef};

/// Who may do what. Nobody may push, pin or collect unless something here says so.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Who may read. `Public`: whoever reaches the cache. `Authenticated`: who has the permission `Read`, by a token
    /// in Nix's netrc file; the bucket has to be private too.
    #[serde(default)]
    pub read: ReadAccess,

    /// Shared secrets, for clients outside of the cluster.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub static_tokens: Vec<StaticToken>,

    /// ServiceAccounts of this cluster, by tokens made for this cache (projected volumes).
    #[serde(default)]
    pub kubernetes: KubernetesAuth,

    /// Issuers of OIDC tokens: GitHub Actions, GitLab, other clusters.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub oidc: Vec<OidcIssuer>,

    /// Client certificates, which the server verifies itself, or a proxy in front.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<ClientCertificates>,
}

/// Who may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum ReadAccess {
    /// Whoever reaches the cache.
    #[default]
    Public,
    /// Who has the permission `Read`.
    Authenticated,
}

/// A shared secret.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StaticToken {
    /// What logs call its bearer.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Where the token is: at least 36 characters.
    pub secret_key_ref: SecretKeyRef,
    /// What its bearer may do.
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub permissions: Vec<Permission>,
    /// Globs of the pin names its bearer may write, such as `ci-*`; empty means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub pins: Vec<String>,
}

/// Tokens of the cluster's own ServiceAccounts.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesAuth {
    /// Whether such tokens are taken. A GCPolicy needs it.
    #[serde(default)]
    pub mode: KubernetesAuthMode,

    /// The audience a token must be made for. Default: `niks3.dev/NAMESPACE/NAME`, so that a token for one
    /// cache is worth nothing at another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub audience: Option<String>,

    /// Who may do what. The ServiceAccount `NAME-gc` of the cache's namespace may always collect.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<KubernetesRule>,
}

/// Whether ServiceAccount tokens are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum KubernetesAuthMode {
    /// They are.
    #[default]
    Enabled,
    /// They are not.
    Disabled,
}

/// Grants permissions to ServiceAccounts.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new(
    "self.serviceAccounts.all(s, (s.name == '*' || !s.name.contains('*')) && (s.__namespace__ == '*' || !s.__namespace__.contains('*')))"
).message("serviceAccounts: * stands only for a whole name or namespace").field_path(".serviceAccounts").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new(
    "!('Admin' in self.permissions) || self.serviceAccounts.all(s, s.name != '*' && s.__namespace__ != '*')"
).message("permissions: Admin cannot be given to *").field_path(".permissions").reason(Reason::FieldValueForbidden))]
#[serde(rename_all = "camelCase")]
pub struct KubernetesRule {
    /// What logs call the rule.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Any of these.
    #[schemars(length(min = 1, max = 64))]
    pub service_accounts: Vec<ServiceAccountRef>,
    /// What they may do.
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub permissions: Vec<Permission>,
    /// Globs of the pin names they may write, such as `ci-*`; empty means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub pins: Vec<String>,
}

/// A ServiceAccount.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountRef {
    /// Its namespace; `*` is any.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name; `*` is any.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What an identity may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Permission {
    /// Read a private cache.
    Read,
    /// Upload and commit closures.
    Push,
    /// Create and delete pins.
    Pin,
    /// Collect garbage.
    #[serde(rename = "GC")]
    Gc,
    /// All of the above.
    Admin,
}

impl From<Permission> for niks3_protocol::api::Permission {
    fn from(permission: Permission) -> Self {
        match permission {
            Permission::Read => Self::Read,
            Permission::Push => Self::Push,
            Permission::Pin => Self::Pin,
            Permission::Gc => Self::Gc,
            Permission::Admin => Self::Admin,
        }
    }
}
