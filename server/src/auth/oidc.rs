//! The issuers of NIKS3_OIDC_CONFIG, niks3 1.7's file: CI services that prove to others what they run.
//!
//! Nothing is fetched before a token of an issuer comes in, so an issuer that is away harms its own tokens only.

use std::collections::BTreeMap;
use std::path::Path;

use niks3_protocol::api::Permission;
use serde::Deserialize;
use serde_json::{Value, json};

use super::jwt::KeySet;
use super::keys::{self, FetchError, KeyCache};
use super::{AuthError, Identity, glob, jwt};

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
    providers: BTreeMap<String, ProviderConfig>,
    #[serde(default)]
    allow_insecure: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderConfig {
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
}

/// One issuer.
#[derive(Debug)]
struct Provider {
    name: String,
    config: ProviderConfig,
    keys: KeyCache,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Oidc {
    providers: Vec<Provider>,
    allow_insecure: bool,
}

impl Oidc {
    /// Reads and checks the file.
    pub(super) fn load(path: &Path) -> Result<Self, OidcError> {
        let shown = || path.display().to_string();
        let text = std::fs::read(path).map_err(|source| OidcError::Read { path: shown(), source })?;
        let file: File =
            serde_json::from_slice(&text).map_err(|source| OidcError::Parse { path: shown(), source })?;
        if file.providers.is_empty() {
            return Err(OidcError::Empty);
        }
        let mut providers: Vec<Provider> = Vec::new();
        for (name, config) in file.providers {
            let problem = if config.audience.is_empty() {
                Some("it has no audience".to_owned())
            } else if providers.iter().any(|other| other.config.issuer == config.issuer) {
                Some(format!("another provider has its issuer {} already", config.issuer))
            } else {
                check_url(&config.issuer, file.allow_insecure)
            };
            if let Some(problem) = problem {
                return Err(OidcError::Provider { name, problem });
            }
            providers.push(Provider { name, config, keys: KeyCache::default() });
        }
        Ok(Self { providers, allow_insecure: file.allow_insecure })
    }

    /// The audience for tokens of an issuer, where it is known.
    pub(super) fn audience_of(&self, issuer: &str) -> Option<&str> {
        self.find(issuer).map(|provider| provider.config.audience.as_str())
    }

    /// Checks a token that says it is of `issuer`; `None` where that is none of these.
    pub(super) async fn identify(&self, token: &str, issuer: &str) -> Option<Result<Identity, AuthError>> {
        let provider = self.find(issuer)?;
        Some(provider.identify(token, self.allow_insecure).await)
    }

    fn find(&self, issuer: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.config.issuer == issuer)
    }
}

impl Provider {
    async fn identify(&self, token: &str, allow_insecure: bool) -> Result<Identity, AuthError> {
        let id = jwt::key_id(token)?;
        let keys = self.keys.for_key(&id, self.fetch(allow_insecure)).await?;
        let ProviderConfig { issuer, audience, bound_claims, bound_subject, permissions, pins } =
            &self.config;
        let claims = keys.verify(token, issuer, audience)?;
        let subject = claims["sub"].as_str().unwrap_or_default();
        let name = format!("{issuer}#{subject}");
        if !bound_subject.is_empty() && !bound_subject.iter().any(|glob| glob::matches(glob, subject)) {
            return Err(AuthError::Forbidden(format!("{name} is not a subject this cache lets in")));
        }
        for (claim, globs) in bound_claims {
            let values = find_claim(&claims, claim).map(texts).unwrap_or_default();
            if !values.iter().any(|value| globs.iter().any(|glob| glob::matches(glob, value))) {
                return Err(AuthError::Forbidden(format!(
                    "{name} is not let in: its claim {claim:?} is {values:?}, not one of those configured"
                )));
            }
        }
        Ok(Identity {
            origin: json!({ "issuer": issuer, "subject": subject, "provider": self.name }),
            name,
            permissions: permissions.clone().unwrap_or_else(|| DEFAULT_PERMISSIONS.to_vec()),
            pins: pins.clone(),
        })
    }

    /// Discovery, then the keys it names.
    async fn fetch(&self, allow_insecure: bool) -> Result<KeySet, FetchError> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
            jwks_uri: String,
        }
        let issuer = &self.config.issuer;
        let client = keys::client().https_only(!allow_insecure).build()?;
        let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let found: Discovery = keys::fetch_json(client.get(address)).await?;
        if found.issuer != *issuer {
            return Err(FetchError::ForeignDocument { expected: issuer.clone(), found: found.issuer });
        }
        keys::fetch_json(client.get(found.jwks_uri)).await
    }
}

fn check_url(issuer: &str, allow_insecure: bool) -> Option<String> {
    let secure = match reqwest::Url::parse(issuer) {
        Ok(url) if url.has_host() => url.scheme() == "https",
        _ => return Some(format!("its issuer {issuer:?} is not an address")),
    };
    (!secure && !allow_insecure).then(|| format!("its issuer {issuer} is not https"))
}

/// A claim by its name, or by the path its dots make.
fn find_claim<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| name.split('.').try_fold(claims, |value, part| value.get(part)))
}

/// A claim's values as text: any of a list counts.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::Bool(_) | Value::Number(_) => vec![value.to_string()],
        Value::Null | Value::Object(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_found_by_name_and_by_path() {
        let claims = json!({
            "a.b": "direct", "a": {"b": "nested", "c": {"d": ["x", 1, "y"]}}, "n": 7, "t": true, "o": {},
        });
        let found = |name: &str| find_claim(&claims, name).map(texts);
        assert_eq!(found("a.b"), Some(vec!["direct".to_owned()]));
        assert_eq!(found("a.c.d"), Some(vec!["x".to_owned(), "y".to_owned()]));
        assert_eq!(found("n"), Some(vec!["7".to_owned()]));
        assert_eq!(found("t"), Some(vec!["true".to_owned()]));
        assert_eq!(found("o"), Some(Vec::new()));
        assert_eq!(found("a.x"), None);
    }

    #[test]
    fn a_file_that_would_let_too_many_in_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("oidc.json");
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Oidc::load(&path).map_err(|error| error.to_string())
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
    }
}
