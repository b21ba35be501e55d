//! Client certificates: verified by this server's own TLS, or by a proxy in front that says so in headers, which
//! count only from its addresses.

use std::net::IpAddr;

use axum::http::request::Parts;
use ipnet::IpNet;
use niks3_protocol::server_config::{CertificateProxy, CertificateRule, ClientCertificates};
use serde_json::json;

use super::grants::Grants;
use super::{AuthError, Identity, glob};
use crate::listen::{ClientSubject, Peer};

/// What a proxy writes where a certificate was verified; nginx's word.
const VERIFIED: &str = "SUCCESS";

/// A configuration of client certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// No address.
    #[error(
        "the header {0} would be believed from anybody: name the addresses of the proxy that sets it \
         (NIKS3_MTLS_PROXY_ADDRESSES, --mtls-proxy-addresses)"
    )]
    NoAddress(String),
    /// An address that is none.
    #[error("the proxy's address {0:?} is neither an IP address nor a network such as 10.0.0.0/8")]
    Address(String),
    /// A rule that lets nobody in.
    #[error("the rule {0:?} of client certificates has no subjects")]
    NoSubjects(String),
}

/// Who may do what by a certificate.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    rules: Vec<CertificateRule>,
    proxy: Option<Proxy>,
}

#[derive(Debug)]
struct Proxy {
    config: CertificateProxy,
    networks: Vec<IpNet>,
}

impl Certificates {
    pub(super) fn open(config: ClientCertificates) -> Result<Self, CertificateError> {
        if let Some(rule) = config.rules.iter().find(|rule| rule.subjects.is_empty()) {
            return Err(CertificateError::NoSubjects(rule.name.clone()));
        }
        let proxy = config.proxy.map(Proxy::open).transpose()?;
        Ok(Self { rules: config.rules, proxy })
    }

    /// The identity of whoever proved to have a certificate with the request's connection, or through the proxy.
    pub(super) fn identify(&self, parts: &Parts) -> Option<Result<Identity, AuthError>> {
        let own = parts.extensions.get::<ClientSubject>();
        let own = own.map(|ClientSubject(subject)| subject.as_deref().unwrap_or_default());
        let subject = own.or_else(|| self.proxy.as_ref()?.subject(parts))?;
        if subject.is_empty() {
            return Some(Err(AuthError::NoSubject));
        }
        let mut grants = Grants::default();
        for rule in &self.rules {
            if rule.subjects.iter().any(|glob| glob::matches_subject(glob, subject)) {
                grants.add(&rule.permissions, &rule.pins);
            }
        }
        let (permissions, pins) = grants.finish();
        let origin = json!({ "certificate": subject });
        Some(Ok(Identity { name: format!("certificate:{subject}"), permissions, pins, origin }))
    }
}

impl Proxy {
    fn open(config: CertificateProxy) -> Result<Self, CertificateError> {
        let network = |text: &String| {
            let text = text.trim();
            let parsed = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            parsed.map_err(|_| CertificateError::Address(text.to_owned()))
        };
        let networks = config.addresses.iter().map(network).collect::<Result<Vec<_>, _>>()?;
        if networks.is_empty() {
            return Err(CertificateError::NoAddress(config.verified_header));
        }
        Ok(Self { config, networks })
    }

    /// What the headers say, if they come from the proxy; empty where they name nobody. A header that is there twice
    /// may have come past it.
    fn subject<'a>(&self, parts: &'a Parts) -> Option<&'a str> {
        let header = |name: &str| {
            let mut values = parts.headers.get_all(name).iter();
            let first = values.next()?;
            values.next().is_none().then(|| first.to_str().ok()).flatten()
        };
        if header(&self.config.verified_header)? != VERIFIED {
            return None;
        }
        let address = parts.extensions.get::<Peer>()?.0.ip().to_canonical();
        if !self.networks.iter().any(|network| network.contains(&address)) {
            tracing::warn!(%address, "a header that says a certificate was verified came from an address not allowed");
            return None;
        }
        Some(header(&self.config.subject_header).unwrap_or_default())
    }
}
