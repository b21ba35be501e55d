//! Issuers of tokens, of the configuration and of NIKS3_OIDC_CONFIG, niks3 1.7's file: CI services that prove to
//! others what they run.
//!
//! Nothing is fetched before a token of an issuer comes in, so an issuer that is away harms its own tokens only.

mod provider;
mod rule;

use std::collections::BTreeMap;
use std::path::Path;

use niks3_protocol::api::Permission;
use niks3_protocol::api::health::IssuerState;
use niks3_protocol::server_config::OidcProvider;
use serde::Deserialize;

use super::keys::KeyCache;
use super::{AuthError, Identity};
use provider::Provider;
use rule::{Claim, Rule};

/// What niks3 1.7 lets every identity of a provider do, which is all its calls.
const DEFAULT_PERMISSIONS: [Permission; 4] =
    [Permission::Read, Permission::Push, Permission::Pin, Permission::Gc];

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// It cannot be read.
    #[error("the OIDC configuration {path}")]
    Read {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("the OIDC configuration {path}")]
    Parse {
        /// Where.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
    /// It names no provider.
    #[error("the OIDC configuration names no provider")]
    Empty,
    /// A provider is not complete, or not safe.
    #[error("the OIDC provider {name:?}: {problem}")]
    Provider {
        /// Which.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

// A misspelled `bound_claims` would let everybody in: unknown fields are refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    providers: BTreeMap<String, FileProvider>,
    #[serde(default)]
    allow_insecure: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileProvider {
    issuer: String,
    audience: String,
    #[serde(default)]
    bound_claims: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    bound_subject: Vec<String>,
    /// Ours; 1.7 has no permissions.
    #[serde(default)]
    permissions: Option<Vec<Permission>>,
    /// Ours: globs of the pin names it may write; empty means any.
    #[serde(default)]
    pins: Vec<String>,
    /// Ours: where its keys are, in place of discovery.
    #[serde(default)]
    jwks_url: Option<String>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Oidc {
    providers: Vec<Provider>,
}

impl Oidc {
    /// Reads and checks niks3 1.7's file, where there is one, and the providers of the configuration.
    pub(super) fn open(file: Option<&Path>, configured: Vec<OidcProvider>) -> Result<Self, OidcError> {
        let mut all = Self { providers: file.map(read).transpose()?.unwrap_or_default() };
        all.providers.extend(configured.into_iter().map(Provider::from));
        for (index, provider) in all.providers.iter().enumerate() {
            if let Some(problem) = provider.problem(&all.providers[..index]) {
                return Err(OidcError::Provider { name: provider.name.clone(), problem });
            }
        }
        Ok(all)
    }

    /// The audience for tokens of an issuer, where it is known.
    pub(super) fn audience_of(&self, issuer: &str) -> Option<&str> {
        self.find(issuer).map(|provider| provider.audience.as_str())
    }

    /// Checks a token that says it is of `issuer`; `None` where that is none of these.
    pub(super) async fn identify(&self, token: &str, issuer: &str) -> Option<Result<Identity, AuthError>> {
        Some(self.find(issuer)?.identify(token).await)
    }

    /// What became of the keys of each.
    pub(super) fn states(&self) -> impl Iterator<Item = IssuerState> {
        self.providers.iter().map(Provider::state)
    }

    /// Fetches keys that could not be fetched.
    pub(super) async fn retry(&self) {
        futures::future::join_all(self.providers.iter().map(Provider::retry)).await;
    }

    fn find(&self, issuer: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.issuer == issuer)
    }
}

fn read(path: &Path) -> Result<Vec<Provider>, OidcError> {
    let shown = || path.display().to_string();
    let text = std::fs::read(path).map_err(|source| OidcError::Read { path: shown(), source })?;
    let file: File =
        serde_json::from_slice(&text).map_err(|source| OidcError::Parse { path: shown(), source })?;
    if file.providers.is_empty() {
        return Err(OidcError::Empty);
    }
    let provider = |(name, provider): (String, FileProvider)| Provider {
        name,
        issuer: provider.issuer,
        audience: provider.audience,
        allow_insecure: file.allow_insecure,
        ca_file: None,
        jwks_url: provider.jwks_url,
        rules: vec![Rule {
            name: None,
            subjects: provider.bound_subject,
            claims: provider.bound_claims.into_iter().map(|(name, any)| (Claim::Path(name), any)).collect(),
            permissions: provider.permissions.unwrap_or_else(|| DEFAULT_PERMISSIONS.to_vec()),
            pins: provider.pins,
        }],
        keys: KeyCache::default(),
    };
    Ok(file.providers.into_iter().map(provider).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_would_let_too_many_in_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("oidc.json");
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Oidc::open(Some(&path), Vec::new()).map_err(|error| error.to_string())
        };
        let provider = |body: &str| format!(r#"{{"providers": {{"p": {{{body}}}}}}}"#);
        let good = r#""issuer": "https://ci.example", "audience": "cache""#;
        assert!(load(&provider(good)).is_ok());
        assert!(load(r#"{"providers": {}}"#).unwrap_err().contains("no provider"));
        assert!(load(&provider(&format!(r#"{good}, "bound_claim": {{}}"#))).is_err());
        assert!(load(&provider(r#""issuer": "https://ci.example", "audience": """#)).is_err());
        let plain = r#""issuer": "http://ci.example", "audience": "cache""#;
        assert!(load(&provider(plain)).unwrap_err().contains("not https"));
        let insecure = format!(r#"{{"allow_insecure": true, "providers": {{"p": {{{plain}}}}}}}"#);
        assert!(load(&insecure).is_ok());
        let twice = format!(r#"{{"providers": {{"p": {{{good}}}, "q": {{{good}}}}}}}"#);
        assert!(load(&twice).unwrap_err().contains("already"));
        let keys = |url: &str| provider(&format!(r#"{good}, "jwks_url": "{url}""#));
        assert!(load(&keys("https://keys.example/a")).is_ok());
        assert!(load(&keys("http://keys.example/a")).unwrap_err().contains("jwks_url"));
        assert!(load(&keys("")).unwrap_err().contains("its jwks_url \"\" is not an address"));
    }
}
