//! The cluster's ServiceAccounts. The issuer is learned from the server's own token, the keys are fetched from
//! the API server with it: on managed clusters the issuer is a public URL unlike the API server's, and a
//! TokenReview would need a cluster-wide right and a call for every token.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use niks3_protocol::api::Permission;
use niks3_protocol::server_config::{KubernetesAuth, ServiceAccountRef};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::jwt::{self, Keys};
use super::{AuthError, Identity};

/// Keys are fetched at most so often, whatever key ids callers make up.
const FETCH_PAUSE: Duration = Duration::from_secs(10);
/// The limit on one fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks projected tokens.
#[derive(Debug)]
pub(super) struct Kubernetes {
    config: KubernetesAuth,
    keys: RwLock<Arc<Keys>>,
    /// When the last fetch was tried. Held during a fetch: one at a time is the point.
    last_fetch: Mutex<Option<Instant>>,
}

impl Kubernetes {
    pub(super) fn new(config: KubernetesAuth) -> Self {
        Self { config, keys: RwLock::default(), last_fetch: Mutex::new(None) }
    }

    pub(super) fn config(&self) -> &KubernetesAuth {
        &self.config
    }

    /// The issuer of the server's own token, which the kubelet renews.
    pub(super) fn own_issuer(&self) -> Result<String, AuthError> {
        let token = self.own_token()?;
        jwt::unchecked_claim(&token, "iss")
            .ok_or_else(|| AuthError::Unavailable("the server's own token names no issuer".to_owned()))
    }

    fn own_token(&self) -> Result<String, AuthError> {
        std::fs::read_to_string(&self.config.token_file)
            .map(|token| token.trim().to_owned())
            .map_err(|error| AuthError::Unavailable(format!("the server has no token of its own: {error}")))
    }

    pub(super) async fn identify(&self, token: &str) -> Result<Identity, AuthError> {
        let issuer = self.own_issuer()?;
        match jwt::unchecked_claim(token, "iss") {
            Some(given) if given == issuer => {}
            _ => return Err(AuthError::Invalid("it comes from another issuer".to_owned())),
        }
        let id = jwt::key_id(token)?;
        if !self.current().knows(&id) {
            self.fetch(&id).await?;
        }
        let claims = self.current().verify(token, &issuer, &self.config.audience)?;
        self.identity_of(&issuer, &claims)
    }

    fn current(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fetches the keys, unless that was done a moment ago.
    async fn fetch(&self, wanted: &str) -> Result<(), AuthError> {
        let mut last = self.last_fetch.lock().await;
        if self.current().knows(wanted) || last.is_some_and(|last| last.elapsed() < FETCH_PAUSE) {
            return Ok(());
        }
        *last = Some(Instant::now());
        let set = self.fetch_set().await.map_err(|error| {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the cluster's token keys were not fetched"
            );
            AuthError::Unavailable("the API server did not give its token keys".to_owned())
        })?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Keys::from_set(&set));
        Ok(())
    }

    async fn fetch_set(&self) -> Result<JwkSet, FetchError> {
        let ca = std::fs::read(&self.config.ca_file).map_err(FetchError::ReadCa)?;
        let ca = reqwest::Certificate::from_pem_bundle(&ca)?;
        // Made anew for each fetch, which is rare: the kubelet renews token and CA.
        let client = reqwest::Client::builder().tls_certs_only(ca).timeout(FETCH_TIMEOUT).build()?;
        let address = format!("{}/openid/v1/jwks", self.config.api_server.trim_end_matches('/'));
        let token = self.own_token().map_err(|error| FetchError::OwnToken(error.to_string()))?;
        let answer = client.get(address).bearer_auth(token).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }

    /// What the rules say of a checked token.
    fn identity_of(&self, issuer: &str, claims: &Value) -> Result<Identity, AuthError> {
        let text = |pointer: &str| claims.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let subject = text("/sub");
        let (namespace, name) =
            (text("/kubernetes.io/namespace"), text("/kubernetes.io/serviceaccount/name"));
        if namespace.is_empty()
            || name.is_empty()
            || subject != format!("system:serviceaccount:{namespace}:{name}")
        {
            return Err(AuthError::Invalid("its subject is not the ServiceAccount it names".to_owned()));
        }
        let (mut permissions, mut pins, mut any_pin) = (Vec::new(), Vec::new(), false);
        for rule in &self.config.rules {
            if rule.service_accounts.iter().any(|account| matches(account, namespace, name)) {
                permissions.extend_from_slice(&rule.permissions);
                pins.extend_from_slice(&rule.pins);
                any_pin |= rule.pins.is_empty() && rule.permissions.contains(&Permission::Pin);
            }
        }
        permissions.sort_unstable();
        permissions.dedup();
        if any_pin {
            pins.clear();
        }
        let origin = json!({
            "issuer": issuer,
            "subject": subject,
            "namespace": namespace,
            "service_account": name,
            "pod": text("/kubernetes.io/pod/name"),
        });
        Ok(Identity { name: format!("{issuer}#{subject}"), permissions, pins, origin })
    }
}

/// `*` as a whole value matches any.
fn matches(account: &ServiceAccountRef, namespace: &str, name: &str) -> bool {
    let fits = |pattern: &str, value: &str| pattern == "*" || pattern == value;
    fits(&account.namespace, namespace) && fits(&account.name, name)
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the CA file")]
    ReadCa(#[source] std::io::Error),
    #[error("{0}")]
    OwnToken(String),
    #[error("the request for keys")]
    Request(#[from] reqwest::Error),
}
