//! One issuer: its keys, and what its rules let tokens do.

use std::path::PathBuf;

use niks3_protocol::api::health::IssuerState;
use niks3_protocol::server_config::{OidcProvider, OidcRule};
use serde::Deserialize;
use serde_json::json;

use super::rule::{Claim, Rule};
use crate::auth::fetch::{self, FetchError};
use crate::auth::grants::Grants;
use crate::auth::jwt::{self, KeySet};
use crate::auth::keys::KeyCache;
use crate::auth::{AuthError, Identity};

/// One issuer.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) allow_insecure: bool,
    pub(super) ca_file: Option<PathBuf>,
    /// Where its keys are; left out, its discovery document says it.
    pub(super) jwks_url: Option<String>,
    pub(super) rules: Vec<Rule>,
    pub(super) keys: KeyCache,
}

impl From<OidcProvider> for Provider {
    fn from(config: OidcProvider) -> Self {
        let rule = |rule: OidcRule| Rule {
            name: Some(rule.name),
            subjects: rule.subjects,
            claims: rule
                .claims
                .into_iter()
                .map(|claim| (Claim::Pointer(claim.pointer), claim.any_of))
                .collect(),
            permissions: rule.permissions,
            pins: rule.pins,
        };
        Self {
            name: config.name,
            issuer: config.issuer,
            audience: config.audience,
            allow_insecure: false,
            ca_file: config.ca_file.map(PathBuf::from),
            jwks_url: config.jwks_url,
            rules: config.rules.into_iter().map(rule).collect(),
            keys: KeyCache::default(),
        }
    }
}

impl Provider {
    /// What is wrong with it, beside those before it.
    pub(super) fn problem(&self, others: &[Self]) -> Option<String> {
        if self.audience.is_empty() {
            return Some("it has no audience".to_owned());
        }
        if others.iter().any(|other| other.issuer == self.issuer) {
            return Some(format!("another provider has its issuer {} already", self.issuer));
        }
        let problem = |rule: &Rule| {
            let name = rule.name.as_ref()?;
            if rule.subjects.is_empty() && rule.claims.is_empty() {
                return Some(format!(
                    "its rule {name:?} has neither subjects nor claims; to let in whoever the issuer vouches for, say \
                     the subject *"
                ));
            }
            rule.claims.iter().find_map(|(claim, _)| match claim {
                Claim::Pointer(pointer) if !pointer.starts_with('/') => {
                    Some(format!("{pointer:?} of its rule {name:?} is no JSON pointer: these begin with /"))
                }
                _ => None,
            })
        };
        let url = |what: &str, url: &str| check_url(what, url, self.allow_insecure);
        let rules = self.rules.iter().find_map(problem);
        rules
            .or_else(|| url("issuer", &self.issuer))
            .or_else(|| self.jwks_url.as_ref().and_then(|keys| url("jwks_url", keys)))
    }

    /// What became of its keys.
    pub(super) fn state(&self) -> IssuerState {
        self.keys.state(Some(self.name.clone()))
    }

    /// Fetches keys that could not be fetched.
    pub(super) async fn retry(&self) {
        self.keys.retry(self.fetch()).await;
    }

    pub(super) async fn identify(&self, token: &str) -> Result<Identity, AuthError> {
        let id = jwt::key_id(token)?;
        let keys = self.keys.for_key(&id, self.fetch()).await?;
        let claims = keys.verify(token, &self.issuer, &self.audience)?;
        let subject = claims["sub"].as_str().unwrap_or_default();
        let name = format!("{}#{subject}", self.issuer);
        let (mut grants, mut fits, mut refusals) = (Grants::default(), false, Vec::new());
        for rule in &self.rules {
            match rule.refuses(subject, &claims) {
                None => {
                    fits = true;
                    grants.add(&rule.permissions, &rule.pins);
                }
                Some(why) => refusals.push(why),
            }
        }
        if !fits {
            let why =
                if refusals.is_empty() { "no rule names anybody".to_owned() } else { refusals.join("; ") };
            return Err(AuthError::Forbidden(format!("{name} is not let in: {why}")));
        }
        let (permissions, pins) = grants.finish();
        let origin = json!({ "issuer": self.issuer, "subject": subject, "provider": self.name });
        Ok(Identity { name, permissions, pins, origin })
    }

    /// The keys, where the configuration says or else discovery.
    async fn fetch(&self) -> Result<KeySet, FetchError> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
            jwks_uri: String,
        }
        let mut client = fetch::client().https_only(!self.allow_insecure);
        if let Some(path) = &self.ca_file {
            let ca = std::fs::read(path).map_err(FetchError::ReadCa)?;
            client = client.tls_certs_merge(reqwest::Certificate::from_pem_bundle(&ca)?);
        }
        let client = client.build()?;
        if let Some(keys) = &self.jwks_url {
            return fetch::fetch_json(client.get(keys)).await;
        }
        let address = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let found: Discovery = fetch::fetch_json(client.get(address)).await?;
        if found.issuer != self.issuer {
            return Err(FetchError::ForeignDocument { expected: self.issuer.clone(), found: found.issuer });
        }
        fetch::fetch_json(client.get(found.jwks_uri)).await
    }
}

fn check_url(what: &str, text: &str, allow_insecure: bool) -> Option<String> {
    let secure = match reqwest::Url::parse(text) {
        Ok(url) if url.has_host() => url.scheme() == "https",
        _ => return Some(format!("its {what} {text:?} is not an address")),
    };
    (!secure && !allow_insecure).then(|| format!("its {what} {text} is not https"))
}
