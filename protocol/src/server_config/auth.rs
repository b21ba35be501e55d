//! Who may do what.

use serde::{Deserialize, Serialize};

use crate::api::Permission;

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSection {
    /// Shared secrets.
    pub static_tokens: Vec<StaticToken>,
    /// The cluster's ServiceAccounts.
    pub kubernetes: Option<KubernetesAuth>,
}

/// A shared secret of at least 36 characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticToken {
    /// What logs and provenance call it.
    pub name: String,
    /// The file holding it.
    pub token_file: String,
    /// What it may do.
    pub permissions: Vec<Permission>,
    /// Globs of the pin names it may write; empty means any.
    #[serde(default)]
    pub pins: Vec<String>,
}

/// Projected tokens of the cluster's own issuer. The issuer is learned from the server's own token, the
/// keys are fetched from the API server with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesAuth {
    /// What tokens must be made for.
    pub audience: String,
    /// The API server's origin.
    pub api_server: String,
    /// The server's own token for the API server.
    pub token_file: String,
    /// The API server's CA.
    pub ca_file: String,
    /// Who may do what; nobody is let in by default.
    pub rules: Vec<KubernetesRule>,
}

/// Grants permissions to ServiceAccounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesRule {
    /// What logs call it.
    pub name: String,
    /// Any of these.
    pub service_accounts: Vec<ServiceAccountRef>,
    /// What they may do.
    pub permissions: Vec<Permission>,
    /// Globs of the pin names they may write; empty means any.
    #[serde(default)]
    pub pins: Vec<String>,
}

/// A ServiceAccount; `*` as a whole value matches any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccountRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}
