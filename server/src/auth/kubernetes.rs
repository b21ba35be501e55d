//! The cluster's own ServiceAccounts, by the tokens the kubelet projects into their pods.
//!
//! The issuer is learned from the server's own mounted token: on managed clusters it is a public URL unlike
//! the API server's. The keys come from the API server, with that token and the mounted CA. Where the API
//! server is away, only callers whose key is not known yet are turned away.

use niks3_protocol::api::health::IssuerState;
use niks3_protocol::server_config::{KubernetesAuth, ServiceAccountRef};
use serde_json::{Value, json};

use super::fetch::{self, FetchError};
use super::grants::Grants;
use super::jwt::KeySet;
use super::keys::KeyCache;
use super::{AuthError, Identity, jwt};

/// Checks projected tokens.
#[derive(Debug)]
pub(super) struct Kubernetes {
    config: KubernetesAuth,
    keys: KeyCache,
}

impl Kubernetes {
    pub(super) fn new(config: KubernetesAuth) -> Self {
        Self { config, keys: KeyCache::default() }
    }

    pub(super) fn audience(&self) -> &str {
        &self.config.audience
    }

    /// The issuer of the server's own token, which the kubelet renews.
    pub(super) fn own_issuer(&self) -> Result<String, AuthError> {
        let token = self.own_token().map_err(AuthError::Unavailable)?;
        jwt::unchecked_claim(&token, "iss")
            .ok_or_else(|| AuthError::Unavailable("the server's own token names no issuer".to_owned()))
    }

    fn own_token(&self) -> Result<String, String> {
        std::fs::read_to_string(&self.config.token_file)
            .map(|token| token.trim().to_owned())
            .map_err(|error| format!("the server has no token of its own: {error}"))
    }

    /// Checks a token that says it is of `issuer`, this cluster's.
    pub(super) async fn identify(&self, token: &str, issuer: &str) -> Result<Identity, AuthError> {
        let id = jwt::key_id(token)?;
        let keys = self.keys.for_key(&id, self.fetch()).await?;
        let claims = keys.verify(token, issuer, &self.config.audience)?;
        self.identity_of(issuer, &claims)
    }

    /// What became of the keys.
    pub(super) fn state(&self) -> IssuerState {
        self.keys.state(None)
    }

    /// Fetches keys that could not be fetched.
    pub(super) async fn retry(&self) {
        self.keys.retry(self.fetch()).await;
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let ca = std::fs::read(&self.config.ca_file).map_err(FetchError::ReadCa)?;
        let ca = reqwest::Certificate::from_pem_bundle(&ca)?;
        // Made anew for each fetch, which is rare: the kubelet renews token and CA.
        let client = fetch::client().tls_certs_only(ca).build()?;
        let address = format!("{}/openid/v1/jwks", self.config.api_server.trim_end_matches('/'));
        let token = self.own_token().map_err(FetchError::OwnToken)?;
        fetch::fetch_json(client.get(address).bearer_auth(token)).await
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
        let mut grants = Grants::default();
        for rule in &self.config.rules {
            if rule.service_accounts.iter().any(|account| matches(account, namespace, name)) {
                grants.add(&rule.permissions, &rule.pins);
            }
        }
        let (permissions, pins) = grants.finish();
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
