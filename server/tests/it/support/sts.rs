//! A MinIO whose STS takes the tokens of an issuer.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Place;
use super::issuer::{Issuer, in_seconds, key, token};
use super::minio::Minio;

/// What tokens for STS are made for.
pub(crate) const STS: &str = "sts.amazonaws.com";

/// S3 and STS at one origin.
pub(crate) struct Sts {
    pub(crate) url: String,
    /// The role that the issuer's tokens may have.
    pub(crate) role: String,
    _minio: Minio,
}

impl Sts {
    pub(crate) async fn start(place: &Place, issuer: &Issuer) -> Self {
        Self::for_audience(place, issuer, STS).await
    }

    /// Tokens have to be made for this.
    pub(crate) async fn for_audience(place: &Place, issuer: &Issuer, audience: &str) -> Self {
        let discovery = format!("{}/.well-known/openid-configuration", issuer.url);
        let variables = [
            ("MINIO_IDENTITY_OPENID_CONFIG_URL", discovery.as_str()),
            ("MINIO_IDENTITY_OPENID_CLIENT_ID", audience),
            ("MINIO_IDENTITY_OPENID_ROLE_POLICY", "readwrite"),
        ];
        let minio = Minio::run(place.folder(), &variables).await;
        let give_up = Instant::now() + Duration::from_secs(30);
        loop {
            let said = minio.said();
            if let Some(role) = said.split_whitespace().find(|word| word.starts_with("arn:minio:iam:")) {
                return Self { url: minio.url.clone(), role: role.to_owned(), _minio: minio };
            }
            assert!(Instant::now() < give_up, "minio names no role: {said}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The token of a pod, for so many seconds.
pub(crate) fn pod_token(issuer: &Issuer, audience: &str, life: i64) -> String {
    let claims = json!({
        "iss": issuer.url, "aud": audience, "sub": "system:serviceaccount:nix:main-server",
        "iat": in_seconds(life - 600), "exp": in_seconds(life),
    });
    token(key("rsa"), &claims)
}
