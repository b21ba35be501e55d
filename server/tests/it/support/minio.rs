//! A MinIO of a test's own, with a key to encrypt with. The client's tests have it from here too.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{environment, optional};

/// Who may do everything there.
pub(crate) const ROOT: &str = "root-access";
pub(crate) const ROOT_SECRET: &str = "root-secret-key";
/// The key of its key management service.
pub(crate) const KMS_KEY: &str = "niks3-test";

/// S3 and STS at one origin.
pub(crate) struct Minio {
    pub(crate) url: String,
    said: PathBuf,
    child: Child,
}

impl Minio {
    /// With these variables, and its files in this folder.
    pub(crate) async fn run(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (data, said) = (folder.join("minio"), folder.join("minio.log"));
        std::fs::create_dir_all(&data).unwrap();
        let log = std::fs::File::create(&said).unwrap();
        let child = Command::new(program())
            .args(["server", "--address", &format!("127.0.0.1:{port}")])
            .arg(&data)
            .env_clear()
            .env("HOME", &data)
            .env("MINIO_ROOT_USER", ROOT)
            .env("MINIO_ROOT_PASSWORD", ROOT_SECRET)
            .env("MINIO_KMS_SECRET_KEY", format!("{KMS_KEY}:{}", STANDARD.encode([7; 32])))
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .envs(variables.iter().copied())
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap_or_else(|error| {
                panic!("minio cannot be started ({error}); run e2e/cluster/programs minio")
            });
        let minio = Self { url: format!("http://127.0.0.1:{port}"), said, child };
        let give_up = Instant::now() + Duration::from_secs(30);
        loop {
            let ready = reqwest::get(format!("{}/minio/health/ready", minio.url)).await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return minio;
            }
            assert!(Instant::now() < give_up, "minio is not ready: {}", minio.said());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
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
