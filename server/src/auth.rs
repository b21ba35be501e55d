//! Who is calling, and what they may do. Nobody may do anything by default.

mod certificate;
mod fetch;
mod glob;
mod grants;
mod jwt;
mod keys;
mod kubernetes;
mod oidc;
mod proof;
mod token;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use niks3_protocol::api::health::IssuerState;
use niks3_protocol::api::pins::PinName;
use niks3_protocol::api::{Permission, WhoAmI};
use niks3_protocol::server_config::AuthSection;
use serde_json::Value;

use crate::app::App;
use crate::error::ApiError;
use crate::listen::Peer;
pub use certificate::CertificateError;
use certificate::Certificates;
use kubernetes::Kubernetes;
use oidc::Oidc;
pub use oidc::OidcError;
use token::StaticTokens;
pub use token::{MIN_TOKEN, TokenError};

/// How often an issuer is asked again that did not give its keys.
const RETRY: Duration = Duration::from_secs(5);

/// Why a caller is turned away. No token stands in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthError {
    /// No token.
    #[error("no identity: send `Authorization: Bearer TOKEN`")]
    Missing,
    /// A token that proves nothing here.
    #[error("the token is not valid here: {0}")]
    Invalid(String),
    /// A certificate that names nobody.
    #[error("the client certificate names no subject this server can read")]
    NoSubject,
    /// A valid identity without the permission.
    #[error("{0}")]
    Forbidden(String),
    /// What would prove the identity is away.
    #[error("the token cannot be checked now: {0}")]
    Unavailable(String),
}

/// A caller whose proof was checked.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `token:NAME`, `ISSUER#SUBJECT` or `certificate:SUBJECT`.
    pub name: String,
    /// What it may do.
    pub permissions: Vec<Permission>,
    /// Globs of the pin names it may write; empty means any.
    pub pins: Vec<String>,
    /// What is kept of it beside what it pushes.
    pub origin: Value,
}

impl Identity {
    /// Whether it has the permission; `Admin` has all.
    pub fn may(&self, permission: Permission) -> Result<(), AuthError> {
        if self.permissions.contains(&permission) || self.permissions.contains(&Permission::Admin) {
            return Ok(());
        }
        let wanted = serde_json::to_value(permission).unwrap_or_default();
        let name = wanted.as_str().unwrap_or_default();
        Err(AuthError::Forbidden(if self.permissions.is_empty() {
            format!("{} is not named by any rule of this cache; it needs the permission {name}", self.name)
        } else {
            format!("{} lacks the permission {name}", self.name)
        }))
    }

    /// Whether it may write this pin.
    pub fn may_pin(&self, pin: &PinName) -> Result<(), AuthError> {
        self.may(Permission::Pin)?;
        if self.pins.is_empty()
            || self.permissions.contains(&Permission::Admin)
            || self.pins.iter().any(|glob| glob::matches(glob, pin.as_str()))
        {
            return Ok(());
        }
        Err(AuthError::Forbidden(format!(
            "{} may write pins named {}, not {pin}",
            self.name,
            self.pins.join(" or ")
        )))
    }

    /// The answer of `GET /api/whoami`.
    pub fn describe(&self) -> WhoAmI {
        WhoAmI { identity: self.name.clone(), permissions: self.permissions.clone(), pins: self.pins.clone() }
    }
}

/// A configuration of identities that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthConfigError {
    /// Of static tokens.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Of OIDC providers.
    #[error(transparent)]
    Oidc(#[from] OidcError),
    /// Of client certificates.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// All proofs of identity this server accepts.
#[derive(Debug, Default)]
pub struct Auth {
    tokens: StaticTokens,
    kubernetes: Option<Kubernetes>,
    oidc: Oidc,
    certificates: Certificates,
}

impl Auth {
    /// Reads token files and niks3 1.7's file of OIDC providers; nothing is fetched yet.
    pub fn open(
        section: AuthSection,
        api_token: Option<String>,
        oidc: Option<&Path>,
    ) -> Result<Self, AuthConfigError> {
        Ok(Self {
            tokens: StaticTokens::load(&section.static_tokens, api_token)?,
            kubernetes: section.kubernetes.map(Kubernetes::new),
            oidc: Oidc::open(oidc, section.oidc)?,
            certificates: Certificates::open(section.client_certificates.unwrap_or_default())?,
        })
    }

    /// The audience for tokens of an issuer, where it is known; of the cluster's, where none is named.
    pub fn audience_of(&self, issuer: Option<&str>) -> Option<String> {
        let kubernetes = self.kubernetes.as_ref();
        let audience = match issuer {
            None => kubernetes.map(Kubernetes::audience),
            Some(issuer) => self.oidc.audience_of(issuer).or_else(|| {
                kubernetes
                    .filter(|own| own.own_issuer().is_ok_and(|own| own == issuer))
                    .map(Kubernetes::audience)
            }),
        };
        audience.map(str::to_owned)
    }

    /// Whose tokens are taken, and what became of their keys.
    pub fn issuers(&self) -> Vec<IssuerState> {
        self.kubernetes.iter().map(Kubernetes::state).chain(self.oidc.states()).collect()
    }

    /// The cluster's issuer, where its tokens are taken and it can be told.
    pub fn kubernetes_issuer(&self) -> Option<String> {
        self.kubernetes.as_ref()?.own_issuer().ok()
    }

    /// Asks those for their keys again that did not give them.
    async fn retry(&self) {
        let cluster = async {
            if let Some(kubernetes) = &self.kubernetes {
                kubernetes.retry().await;
            }
        };
        tokio::join!(cluster, self.oidc.retry());
    }

    /// Checks a bearer token.
    pub async fn identify(&self, token: &str) -> Result<Identity, AuthError> {
        if let Some(identity) = self.tokens.find(token) {
            return Ok(identity);
        }
        // Who is to check it; what it says of itself is not believed any further than that.
        let Some(issuer) = jwt::unchecked_claim(token, "iss") else {
            return Err(AuthError::Invalid("it is not one of this cache's tokens".to_owned()));
        };
        if let Some(result) = self.oidc.identify(token, &issuer).await {
            return result;
        }
        match &self.kubernetes {
            Some(kubernetes) if kubernetes.own_issuer()? == issuer => {
                kubernetes.identify(token, &issuer).await
            }
            _ => Err(AuthError::Invalid("it comes from another issuer".to_owned())),
        }
    }
}

/// Goes on asking issuers that did not give their keys, so that the end of an outage is seen without a token.
pub async fn keep(app: Arc<App>) {
    loop {
        tokio::time::sleep(RETRY).await;
        app.auth.retry().await;
    }
}

/// A caller of the API, who may call only so often.
impl FromRequestParts<Arc<App>> for Identity {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let identity = Self::of_reader(parts, app).await?;
        app.rates.check(&identity.name).map_err(|after| ApiError::Throttled {
            // Rounded up: who comes back to the second is not to be early.
            after: after + Duration::from_secs(1),
            message: format!(
                "{} calls too often; this server takes {} calls a second",
                identity.name, app.config.limits.calls_per_second
            ),
        })?;
        Ok(identity)
    }
}

impl Identity {
    /// Who asks for an object. Nix asks for thousands of narinfos at once.
    pub async fn of_reader(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let result = match proof::token(&parts.headers) {
            Some(token) => app.auth.identify(&token).await,
            None => app.auth.certificates.identify(parts).unwrap_or(Err(AuthError::Missing)),
        };
        app.metrics.count_auth(&result);
        match result {
            Ok(mut identity) => {
                tracing::Span::current().record("identity", identity.name.as_str());
                if let (Some(Peer(address)), Some(origin)) =
                    (parts.extensions.get(), identity.origin.as_object_mut())
                {
                    origin.insert("address".to_owned(), address.ip().to_canonical().to_string().into());
                }
                Ok(identity)
            }
            Err(error) => {
                tracing::info!(reason = %error, "a caller is turned away");
                Err(error.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(permissions: &[Permission], pins: &[&str]) -> Identity {
        Identity {
            name: "token:test".to_owned(),
            permissions: permissions.to_vec(),
            pins: pins.iter().map(ToString::to_string).collect(),
            origin: Value::Null,
        }
    }

    #[test]
    fn admin_has_every_permission_and_others_only_theirs() {
        assert!(identity(&[Permission::Admin], &[]).may(Permission::Gc).is_ok());
        assert!(identity(&[Permission::Push], &[]).may(Permission::Push).is_ok());
        let refused = identity(&[Permission::Push], &[]).may(Permission::Gc).unwrap_err();
        assert_eq!(refused.to_string(), "token:test lacks the permission GC");
        assert!(identity(&[], &[]).may(Permission::Push).unwrap_err().to_string().contains("any rule"));
    }

    #[test]
    fn pins_are_bound_to_globs() {
        let ci = identity(&[Permission::Pin], &["ci-*", "main"]);
        assert!(ci.may_pin(&"ci-main".parse().unwrap()).is_ok());
        assert!(ci.may_pin(&"main".parse().unwrap()).is_ok());
        assert!(ci.may_pin(&"release-1".parse().unwrap()).is_err());
        assert!(ci.may_pin(&"main2".parse().unwrap()).is_err());
        assert!(identity(&[Permission::Push], &[]).may_pin(&"x".parse().unwrap()).is_err());
    }
}
