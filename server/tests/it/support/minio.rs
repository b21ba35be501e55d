//! A MinIO of a test's own, whose STS takes the tokens of an issuer.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::issuer::{Issuer, in_seconds, key, token};
use super::{Place, environment, optional};

/// What tokens for STS are made for.
pub(crate) const STS: &str = "sts.amazonaws.com";

/// S3 and STS at one origin.
pub(crate) struct Minio {
    pub(crate) url: String,
    /// The role that the issuer's tokens may have.
    pub(crate) role: String,
    child: Child,
}

impl Minio {
    pub(crate) async fn start(place: &Place, issuer: &Issuer) -> Self {
        Self::for_audience(place, issuer, STS).await
    }

    /// Tokens have to be made for this.
    pub(crate) async fn for_audience(place: &Place, issuer: &Issuer, audience: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}");
        let said = PathBuf::from(place.write_file("minio.log", ""));
        let log = std::fs::File::create(&said).unwrap();
        let data = said.with_file_name("minio");
        std::fs::create_dir_all(&data).unwrap();
        let child = Command::new(program())
            .args(["server", "--address", &format!("127.0.0.1:{port}")])
            .arg(&data)
            .env_clear()
            .env("HOME", &data)
            .env("MINIO_ROOT_USER", "root-access")
            .env("MINIO_ROOT_PASSWORD", "root-secret-key")
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .env(
                "MINIO_IDENTITY_OPENID_CONFIG_URL",
                format!("{}/.well-known/openid-configuration", issuer.url),
            )
            .env("MINIO_IDENTITY_OPENID_CLIENT_ID", audience)
            .env("MINIO_IDENTITY_OPENID_ROLE_POLICY", "readwrite")
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap_or_else(|error| panic!("minio cannot be started ({error}); run e2e/cluster/programs"));
        let mut minio = Self { url, role: String::new(), child };
        let give_up = Instant::now() + Duration::from_secs(30);
        loop {
            let said = std::fs::read_to_string(&said).unwrap();
            let role = said.split_whitespace().find(|word| word.starts_with("arn:minio:iam:"));
            let ready = reqwest::get(format!("{}/minio/health/ready", minio.url)).await;
            match role {
                Some(role) if ready.is_ok_and(|answer| answer.status().is_success()) => {
                    role.clone_into(&mut minio.role);
                    return minio;
                }
                _ => assert!(Instant::now() < give_up, "minio is not ready: {said}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let cache = || {
        optional("XDG_CACHE_HOME")
            .map_or_else(|| PathBuf::from(environment("HOME")).join(".cache"), Into::into)
    };
    optional("NIKS3_PROGRAMS").map_or_else(|| cache().join("niks3/bin"), PathBuf::from).join("minio")
}

/// The token of a pod, for so many seconds.
pub(crate) fn pod_token(issuer: &Issuer, audience: &str, life: i64) -> String {
    let claims = json!({
        "iss": issuer.url, "aud": audience, "sub": "system:serviceaccount:nix:main-server",
        "iat": in_seconds(life - 600), "exp": in_seconds(life),
    });
    token(key("rsa"), &claims)
}
