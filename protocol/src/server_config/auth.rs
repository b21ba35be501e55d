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
    /// Issuers of OIDC tokens, beside those of niks3 1.7's file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub oidc: Vec<OidcProvider>,
    /// Who proves itself by a client certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<ClientCertificates>,
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

/// An issuer of OIDC tokens. Its keys are fetched when a token of it first comes in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcProvider {
    /// What logs and provenance call it.
    pub name: String,
    /// What tokens say in `iss`, an https address.
    pub issuer: String,
    /// What tokens must be made for.
    pub audience: String,
    /// A PEM file of CAs that count beside the system's when the issuer is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// Where its keys are, an https address; left out, its discovery document says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// Who may do what; nobody is let in by default.
    pub rules: Vec<OidcRule>,
}

/// Grants permissions to tokens of an issuer that fit all of it. What several rules grant adds up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcRule {
    /// What logs and refusals call it.
    pub name: String,
    /// Globs of `sub`; any of them suffices, and empty means any subject.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// All of these have to match. A rule has subjects or claims: to let in whoever the issuer vouches for, say
    /// the subject `*`.
    #[serde(default)]
    pub claims: Vec<ClaimMatch>,
    /// What they may do.
    pub permissions: Vec<Permission>,
    /// Globs of the pin names they may write; empty means any.
    #[serde(default)]
    pub pins: Vec<String>,
}

/// A claim and what it may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimMatch {
    /// Where it stands, as a JSON pointer: `/repository_owner`, `/project/path`.
    pub pointer: String,
    /// Globs of its value, or of one of its values where it is a list.
    pub any_of: Vec<String>,
}

/// Who proves itself by a client certificate: one that the server itself verifies (`tls.client_ca_file`), or that a
/// proxy verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct ClientCertificates {
    /// Who may do what; nobody is let in by default.
    pub rules: Vec<CertificateRule>,
    /// The proxy that verifies certificates, where the server does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<CertificateProxy>,
}

/// Grants permissions to subjects. What several rules grant adds up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRule {
    /// What logs call it.
    pub name: String,
    /// Globs of the subject, written as `CN=builder,OU=ci,O=example`; any of them suffices.
    pub subjects: Vec<String>,
    /// What they may do.
    pub permissions: Vec<Permission>,
    /// Globs of the pin names they may write; empty means any.
    #[serde(default)]
    pub pins: Vec<String>,
}

/// A proxy in front that verifies client certificates and says so in headers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateProxy {
    /// The header that says `SUCCESS` where a certificate was verified.
    pub verified_header: String,
    /// The header with its subject.
    pub subject_header: String,
    /// The addresses and networks (CIDR) that these headers count from.
    pub addresses: Vec<String>,
}
