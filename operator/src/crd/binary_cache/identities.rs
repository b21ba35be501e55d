//! `spec.auth.oidc` and `spec.auth.clientCertificates`: who comes from outside of the cluster.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{CaSource, CrlSource, Permission};

/// An issuer of OIDC tokens, such as GitHub Actions or GitLab.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("isURL(self.issuer) && self.issuer.startsWith('https://')")
    .message("issuer: must be an https:// address, as tokens have it in iss").field_path(".issuer").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new("!has(self.jwksURL) || (isURL(self.jwksURL) && self.jwksURL.startsWith('https://'))")
    .message("jwksURL: must be an https:// address").field_path(".jwksURL").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct OidcIssuer {
    /// What logs call it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// What tokens say in `iss`, such as `https://token.actions.githubusercontent.com`.
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,
    /// What tokens must be made for, such as the address of the cache.
    #[schemars(length(min = 1, max = 512))]
    pub audience: String,
    /// Where its keys are, for an issuer whose discovery document the server cannot reach. Left out, that document says it.
    #[serde(default, rename = "jwksURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub jwks_url: Option<String>,
    /// CAs that count beside the system's when the issuer is asked for its keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
    /// Who may do what; nobody is let in without one. What several rules grant adds up.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<OidcRule>,
}

/// Grants permissions to tokens that fit all of it.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("size(self.subjects) + size(self.claims) > 0")
    .message("rules: a rule needs subjects or claims; for whoever the issuer vouches for, say the subject *").reason(Reason::FieldValueRequired))]
#[x_kube(validation = Rule::new(
    "!('Admin' in self.permissions) || (self.subjects.all(s, !s.contains('*')) && self.claims.all(c, c.anyOf.all(v, !v.contains('*'))))"
).message("permissions: Admin cannot be given to globs").field_path(".permissions").reason(Reason::FieldValueForbidden))]
#[serde(rename_all = "camelCase")]
pub struct OidcRule {
    /// What logs and refusals call it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Globs of `sub`, such as `repo:example/*:ref:refs/heads/main`; any of them suffices.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 256)))]
    pub subjects: Vec<String>,
    /// All of these have to match.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub claims: Vec<ClaimMatch>,
    /// What they may do.
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub permissions: Vec<Permission>,
    /// Globs of the pin names they may write, such as `ci-*`; empty means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub pins: Vec<String>,
}

/// A claim and what it may be.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimMatch {
    /// Where it stands, as a JSON pointer: `/repository_owner`, `/kubernetes.io/namespace`.
    #[schemars(length(min = 2, max = 256), regex(pattern = r"^(/([^/~]|~[01])+)+$"))]
    pub pointer: String,
    /// Globs of its value, or of one of its values where it is a list.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 256)))]
    pub any_of: Vec<String>,
}

/// Who proves itself by a client certificate: one that the server verifies (`ca`), or a proxy in front (`proxy`).
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("[has(self.ca), has(self.proxy)].exists_one(x, x)")
    .message("clientCertificates: set exactly one of ca and proxy").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new("!has(self.crl) || has(self.ca)")
    .message("clientCertificates.crl: needs ca; where a proxy verifies certificates, it has the lists").field_path(".crl").reason(Reason::FieldValueForbidden))]
#[serde(rename_all = "camelCase")]
pub struct ClientCertificates {
    /// The CAs of client certificates, which the server verifies itself. Needs `server.tls`. Others are taken without a
    /// restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
    /// Their revocation lists, one for each CA: of a CA without, no certificate counts. A newer list is taken within two
    /// minutes, without a restart; one that is over counts on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl: Option<CrlSource>,
    /// A proxy in front that verifies them, such as an Ingress controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<CertificateProxy>,
    /// Who may do what; nobody is let in without one. What several rules grant adds up.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<CertificateRule>,
}

/// A proxy that verifies client certificates and says so in two headers, which it has to set in every request: what a client
/// sends under these names must not pass it. The defaults are what ingress-nginx writes.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.addresses.all(a, isIP(a) || isCIDR(a))")
    .message("proxy.addresses: an IP address such as 10.0.0.1, or a network such as 10.1.0.0/16").field_path(".addresses").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new("self.addresses.all(a, !isCIDR(a) || cidr(a).prefixLength() > 0)")
    .message("proxy.addresses: a network of all addresses would believe anybody").field_path(".addresses").reason(Reason::FieldValueForbidden))]
#[serde(rename_all = "camelCase")]
pub struct CertificateProxy {
    /// The header that says `SUCCESS` where a certificate was verified.
    #[serde(default = "CertificateProxy::default_verified_header")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"))]
    pub verified_header: String,
    /// The header with its subject.
    #[serde(default = "CertificateProxy::default_subject_header")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"))]
    pub subject_header: String,
    /// The addresses and networks that the proxy's requests come from. The headers count from there alone, and from
    /// whoever else is there: see that a NetworkPolicy lets nobody else reach the server.
    #[schemars(length(min = 1, max = 32), inner(length(min = 2, max = 64)))]
    pub addresses: Vec<String>,
}

impl CertificateProxy {
    fn default_verified_header() -> String {
        "ssl-client-verify".to_owned()
    }

    fn default_subject_header() -> String {
        "ssl-client-subject-dn".to_owned()
    }
}

/// Grants permissions to subjects of certificates.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!('Admin' in self.permissions) || self.subjects.all(s, !s.contains('*'))")
    .message("permissions: Admin cannot be given to globs").field_path(".permissions").reason(Reason::FieldValueForbidden))]
#[serde(rename_all = "camelCase")]
pub struct CertificateRule {
    /// What logs call it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Globs of the subject, written as `CN=builder,OU=ci,O=example`; any of them suffices.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 256)))]
    pub subjects: Vec<String>,
    /// What they may do.
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub permissions: Vec<Permission>,
    /// Globs of the pin names they may write, such as `ci-*`; empty means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub pins: Vec<String>,
}
