//! Issuers of tokens, made for a test: an API server over TLS, or an OIDC provider over plain HTTP.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use niks3_protocol::server_config::{KubernetesAuth, KubernetesRule};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::Place;

/// What tokens of a test are made for.
pub(crate) const AUDIENCE: &str = "niks3-test";
/// Unlike the API server's address, as on managed clusters.
pub(crate) const CLUSTER: &str = "https://cluster.example/id/1234";

/// A key that signs tokens.
pub(crate) struct TestKey {
    pub(crate) id: &'static str,
    pub(crate) key: EncodingKey,
    /// What it signs with where nothing else is asked for.
    pub(crate) algorithm: Algorithm,
}

/// One key of each type; made once, because RSA keys take their time.
pub(crate) fn keys() -> &'static [TestKey] {
    static KEYS: OnceLock<Vec<TestKey>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap();
        let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap();
        let ed = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
        let ec = |bytes: &[u8]| EncodingKey::from_ec_der(bytes);
        vec![
            TestKey { id: "rsa", key: rsa_key(), algorithm: Algorithm::RS256 },
            TestKey { id: "p256", key: ec(p256.as_ref()), algorithm: Algorithm::ES256 },
            TestKey { id: "p384", key: ec(p384.as_ref()), algorithm: Algorithm::ES384 },
            TestKey { id: "ed", key: ed_key(ed.as_ref()), algorithm: Algorithm::EdDSA },
        ]
    })
}

/// A new RSA key.
pub(crate) fn rsa_key() -> EncodingKey {
    let key = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'static> = key.as_der().unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der.as_ref())
    );
    EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
}

/// jsonwebtoken wants the form without the public half: the 48 bytes that end with the seed.
fn ed_key(pkcs8: &[u8]) -> EncodingKey {
    EncodingKey::from_ed_der(pkcs8)
}

/// The key of this id.
pub(crate) fn key(id: &str) -> &'static TestKey {
    keys().iter().find(|key| key.id == id).unwrap()
}

/// The public half, as an issuer publishes it.
pub(crate) fn public(key: &TestKey) -> Value {
    let mut jwk = Jwk::from_encoding_key(&key.key, key.algorithm).unwrap();
    jwk.common.key_id = Some(key.id.to_owned());
    jwk.common.key_algorithm = None;
    serde_json::to_value(jwk).unwrap()
}

/// A token signed with a key of its issuer.
pub(crate) fn token(key: &TestKey, claims: &Value) -> String {
    signed(key, key.algorithm, claims)
}

/// The same with another algorithm of the key's.
pub(crate) fn signed(key: &TestKey, algorithm: Algorithm, claims: &Value) -> String {
    let header = Header { kid: Some(key.id.to_owned()), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, &key.key).unwrap()
}

/// A token of any header and signature.
pub(crate) fn forged(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}

/// Seconds since 1970, and some.
pub(crate) fn in_seconds(offset: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + offset
}

/// What the API server writes into the token of a ServiceAccount's pod.
pub(crate) fn account_claims(namespace: &str, name: &str) -> Value {
    json!({
        "iss": CLUSTER,
        "aud": [AUDIENCE],
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
        "iat": in_seconds(0),
        "nbf": in_seconds(0),
        "exp": in_seconds(600),
        "kubernetes.io": {
            "namespace": namespace,
            "serviceaccount": { "name": name, "uid": "5a1e" },
            "pod": { "name": "push-1", "uid": "90d1" },
        },
    })
}

/// A running issuer.
pub(crate) struct Issuer {
    pub(crate) url: String,
    ca: Option<String>,
    fetches: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Document {
    url: String,
    fetches: Arc<AtomicUsize>,
    own_token: Option<String>,
    publishes: fn(&TestKey) -> bool,
}

impl Issuer {
    /// An API server: over TLS of its own CA, and it gives its keys to those it knows.
    pub(crate) async fn api_server() -> Self {
        Self::over_tls(Some(own_token())).await
    }

    /// A provider with a discovery document, over TLS of its own CA.
    pub(crate) async fn private_provider() -> Self {
        Self::over_tls(None).await
    }

    async fn over_tls(own_token: Option<String>) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let chain = vec![certified.cert.der().clone()];
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let (listener, url) = bind("https").await;
        let (router, fetches) = routes(&url, own_token, |_| true);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let builder = Builder::new(TokioExecutor::new());
                    let service = TowerToHyperService::new(router);
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, ca: Some(certified.cert.pem()), fetches, task }
    }

    /// A provider with a discovery document.
    pub(crate) async fn provider() -> Self {
        Self::provider_of(|_| true).await
    }

    /// The same, with some of the keys alone: MinIO refuses all where it does not know one.
    pub(crate) async fn provider_of(publishes: fn(&TestKey) -> bool) -> Self {
        let (listener, url) = bind("http").await;
        let (router, fetches) = routes(&url, None, publishes);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, ca: None, fetches, task }
    }

    /// The configuration of a cache in this API server's cluster.
    pub(crate) fn auth(&self, place: &Place, rules: Vec<KubernetesRule>) -> KubernetesAuth {
        KubernetesAuth {
            audience: AUDIENCE.to_owned(),
            api_server: self.url.clone(),
            token_file: place.write_file("own-token", &own_token()),
            ca_file: self.ca_file(place),
            rules,
        }
    }

    /// A file with its CA.
    pub(crate) fn ca_file(&self, place: &Place) -> String {
        place.write_file("ca.crt", self.ca.as_ref().unwrap())
    }

    /// How often its keys were asked for.
    pub(crate) fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }

    /// Away from now on.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The server's own token, of which only the issuer matters to it and the whole to the API server.
fn own_token() -> String {
    forged(&json!({"alg": "RS256"}), &json!({"iss": CLUSTER, "sub": "the server"}), b"signature")
}

async fn bind(scheme: &str) -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("{scheme}://{}", listener.local_addr().unwrap());
    (listener, url)
}

fn routes(
    url: &str,
    own_token: Option<String>,
    publishes: fn(&TestKey) -> bool,
) -> (Router, Arc<AtomicUsize>) {
    let fetches = Arc::new(AtomicUsize::new(0));
    let state = Document { url: url.to_owned(), fetches: Arc::clone(&fetches), own_token, publishes };
    let router = Router::new()
        .route("/openid/v1/jwks", get(serve_keys))
        .route("/.well-known/openid-configuration", get(discover))
        .with_state(state);
    (router, fetches)
}

async fn serve_keys(State(state): State<Document>, headers: HeaderMap) -> Result<Json<Value>, StatusCode> {
    state.fetches.fetch_add(1, Ordering::Relaxed);
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if state.own_token.is_some_and(|own| given != Some(&format!("Bearer {own}"))) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    Ok(Json(
        json!({ "keys": keys().iter().filter(|key| (state.publishes)(key)).map(public).collect::<Vec<_>>() }),
    ))
}

async fn discover(State(state): State<Document>) -> Json<Value> {
    Json(json!({ "issuer": state.url, "jwks_uri": format!("{}/openid/v1/jwks", state.url) }))
}
