//! TLS of the server's own, and who proves itself by tokens of issuers or by client certificates.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use niks3_protocol::server_config;
use reqwest::Url;
use serde_json::{Value, json};

use crate::crd::BinaryCacheSpec;
use crate::crd::binary_cache::{Auth, CertManager, OidcIssuer, Permission};
use crate::crd::conditions::Reason;
use crate::labels::{CA_FILE, Names};

use super::ca::{self, Pem};
use super::secrets::Resolver;
use super::{CaFile, Invalid};

/// The server's certificate.
#[derive(Debug)]
pub struct Tls {
    /// The Secret with `tls.crt` and `tls.key`.
    pub secret: String,
    /// Its CAs, where the Secret tells them.
    pub ca: Option<String>,
    /// What cert-manager is asked for, where it makes the Secret.
    pub certificate: Option<Value>,
    /// Why it is not there, where cert-manager is to make it.
    pub awaited: Option<String>,
}

/// An issuer of tokens.
#[derive(Debug)]
pub struct Issuer {
    /// As the server reads it, without the path of its CAs.
    pub provider: server_config::OidcProvider,
    /// CAs that count beside the system's.
    pub ca: Option<CaFile>,
}

/// Who proves itself by a client certificate.
#[derive(Debug)]
pub struct Certificates {
    /// The CAs, where the server verifies them.
    pub ca: Option<CaFile>,
    /// What the CAs revoked.
    pub crl: Option<CaFile>,
    /// What the proxy says that verifies them, and who may do what.
    pub section: server_config::ClientCertificates,
}

/// The Secret with the certificate of a cache's server.
pub fn tls_secret(name: &str, spec: &BinaryCacheSpec) -> Option<String> {
    let tls = spec.server.tls.as_ref()?;
    Some(tls.secret_name.clone().unwrap_or_else(|| Names(name).tls()))
}

/// The CA that a TLS Secret tells. Issuers that everybody knows leave it empty.
pub fn tls_ca(secret: &Secret) -> Option<&str> {
    let ca = std::str::from_utf8(&secret.data.as_ref()?.get(CA_FILE)?.0).ok()?;
    (!ca.trim().is_empty()).then_some(ca)
}

/// The Secret is not among those that roll the pods: the server reads its files again.
pub(super) fn tls(
    name: &str,
    namespace: &str,
    url: &str,
    spec: &BinaryCacheSpec,
    resolver: &mut Resolver<'_>,
) -> Option<Tls> {
    let secret = tls_secret(name, spec)?;
    let wanted = spec.server.tls.as_ref().and_then(|tls| tls.cert_manager.as_ref());
    let found = resolver.observed.secrets.get(&secret);
    let data = found.and_then(|found| found.data.as_ref());
    let there = data.is_some_and(|data| data.contains_key("tls.crt") && data.contains_key("tls.key"));
    if wanted.is_none() && !there {
        for key in ["tls.crt", "tls.key"] {
            resolver.value(&secret, key);
        }
    }
    let ca = found.and_then(tls_ca).map(str::to_owned);
    let awaited = (wanted.is_some() && !there)
        .then(|| format!("cert-manager has not made Secret {secret} yet; see Certificate {name}"));
    let certificate = wanted.map(|wanted| certificate(name, namespace, url, &secret, wanted));
    Some(Tls { secret, ca, certificate, awaited })
}

/// Of the address inside the cluster and of the one that clients see.
fn certificate(name: &str, namespace: &str, url: &str, secret: &str, wanted: &CertManager) -> Value {
    let inside = ["", ".svc", ".svc.cluster.local"].map(|end| format!("{name}.{namespace}{end}"));
    let mut names: BTreeSet<String> = inside.into();
    let host = url.parse::<Url>().ok().and_then(|url| url.domain().map(str::to_owned));
    names.extend(host);
    let issuer = &wanted.issuer_ref;
    let mut spec = json!({
        "secretName": secret,
        "dnsNames": names,
        "issuerRef": {"name": issuer.name, "kind": issuer.kind, "group": issuer.group},
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "usages": ["digital signature", "key encipherment", "server auth"],
    });
    if let Some(duration) = &wanted.duration {
        spec["duration"] = json!(duration.0);
    }
    spec
}

pub(super) fn issuers(auth: &Auth, resolver: &mut Resolver<'_>) -> Vec<Issuer> {
    auth.oidc.iter().map(|issuer| one_issuer(issuer, resolver)).collect()
}

fn one_issuer(issuer: &OidcIssuer, resolver: &mut Resolver<'_>) -> Issuer {
    let field = format!("auth.oidc[{}].ca", issuer.name);
    let rules = issuer.rules.iter().map(|rule| server_config::OidcRule {
        name: rule.name.clone(),
        subjects: rule.subjects.clone(),
        claims: rule
            .claims
            .iter()
            .map(|claim| server_config::ClaimMatch {
                pointer: claim.pointer.clone(),
                any_of: claim.any_of.clone(),
            })
            .collect(),
        permissions: permissions(&rule.permissions),
        pins: rule.pins.clone(),
    });
    Issuer {
        ca: issuer.ca.as_ref().and_then(|source| ca::resolve(source, Pem::Cas, &field, resolver)),
        provider: server_config::OidcProvider {
            name: issuer.name.clone(),
            issuer: issuer.issuer.clone(),
            audience: issuer.audience.clone(),
            ca_file: None,
            jwks_url: issuer.jwks_url.clone(),
            rules: rules.collect(),
        },
    }
}

pub(super) fn certificates(
    auth: &Auth,
    resolver: &mut Resolver<'_>,
) -> Result<Option<Certificates>, Invalid> {
    let Some(wanted) = &auth.client_certificates else { return Ok(None) };
    if wanted.ca.is_some() == wanted.proxy.is_some() {
        // The API server refuses this; it may have been stored under an older schema.
        let message = "auth.clientCertificates: set exactly one of ca and proxy".to_owned();
        return Err(Invalid { reason: Reason::InvalidSpec, message });
    }
    let rules = wanted.rules.iter().map(|rule| server_config::CertificateRule {
        name: rule.name.clone(),
        subjects: rule.subjects.clone(),
        permissions: permissions(&rule.permissions),
        pins: rule.pins.clone(),
    });
    let proxy = wanted.proxy.as_ref().map(|proxy| server_config::CertificateProxy {
        verified_header: proxy.verified_header.clone(),
        subject_header: proxy.subject_header.clone(),
        addresses: proxy.addresses.clone(),
    });
    let section = server_config::ClientCertificates { rules: rules.collect(), proxy };
    // The server reads both again by itself, so that a list of each day makes no new pods.
    let versions = resolver.versions.clone();
    let ca = wanted.ca.as_ref();
    let ca = ca.and_then(|source| ca::resolve(source, Pem::Cas, "auth.clientCertificates.ca", resolver));
    let lists = wanted.crl.as_ref().filter(|_| ca.is_some()).map(Into::into);
    let crl = lists.and_then(|source| {
        ca::resolve(&source, Pem::RevocationLists, "auth.clientCertificates.crl", resolver)
    });
    resolver.versions = versions;
    Ok(Some(Certificates { ca, crl, section }))
}

fn permissions(wanted: &[Permission]) -> Vec<niks3_protocol::api::Permission> {
    wanted.iter().copied().map(Into::into).collect()
}
