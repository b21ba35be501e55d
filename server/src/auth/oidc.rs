//! Issuers of tokens, of the configuration and of NIKS3_OIDC_CONFIG, niks3 1.7's file: CI services that prove to
//! others what they run.
//!
//! Nothing is fetched before a token of an issuer comes in, so an issuer that is away harms its own tokens only.

mod rule;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use niks3_protocol::api::Permission;
use niks3_protocol::server_config::{OidcProvider, OidcRule};
use serde::Deserialize;
use serde_json::json;

use super::grants::Grants;
use super::jwt::KeySet;
use super::keys::{self, FetchError, KeyCache};
use super::{AuthError, Identity, jwt};
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
}

/// One issuer.
#[derive(Debug)]
struct Provider {
    name: String,
    issuer: String,
    audience: String,
    allow_insecure: bool,
    ca_file: Option<PathBuf>,
    rules: Vec<Rule>,
    keys: KeyCache,
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
            rules: config.rules.into_iter().map(rule).collect(),
            keys: KeyCache::default(),
        }
    }
}

impl Provider {
    /// What is wrong with it, beside those before it.
    fn problem(&self, others: &[Self]) -> Option<String> {
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
        self.rules.iter().find_map(problem).or_else(|| check_url(&self.issuer, self.allow_insecure))
    }

    async fn identify(&self, token: &str) -> Result<Identity, AuthError> {
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

    /// Discovery, then the keys it names.
    async fn fetch(&self) -> Result<KeySet, FetchError> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
            jwks_uri: String,
        }
        let mut client = keys::client().https_only(!self.allow_insecure);
        if let Some(path) = &self.ca_file {
            let ca = std::fs::read(path).map_err(FetchError::ReadCa)?;
            client = client.tls_certs_merge(reqwest::Certificate::from_pem_bundle(&ca)?);
        }
        let client = client.build()?;
        let address = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let found: Discovery = keys::fetch_json(client.get(address)).await?;
        if found.issuer != self.issuer {
            return Err(FetchError::ForeignDocument { expected: self.issuer.clone(), found: found.issuer });
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
    }
}
