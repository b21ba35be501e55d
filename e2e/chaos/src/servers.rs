//! The real servers: processes that are killed and started again.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use niks3_protocol::nix::{PublicKey, SecretKey};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::place::Place;
use crate::proxy::Way;

/// The token that may do everything.
pub const TOKEN: &str = "chaos-token-of-the-admin-0123456789abcdef";
/// Faults slow a start down.
const STARTS_WITHIN: Duration = Duration::from_mins(1);

/// One server: the same address, one process after another.
#[derive(Debug)]
pub struct Server {
    /// Its origin.
    pub url: String,
    command: Settings,
    process: Mutex<Option<Child>>,
}

/// What its processes are started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program.
    pub program: PathBuf,
    /// Where logs and keys are.
    pub folder: PathBuf,
    /// `host:port` of the ways.
    pub database: String,
    /// S3, for the server.
    pub s3: String,
    /// S3, for its clients.
    pub uploads: String,
    /// The bucket.
    pub place: Place,
    /// `--s3-request-timeout`
    pub request_seconds: u64,
}

impl Settings {
    /// Settings that lead over these ways.
    pub fn new(program: &Path, folder: &Path, place: &Place, ways: [&Way; 3], request_seconds: u64) -> Self {
        let [database, s3, uploads] = ways.map(|way| way.address.to_string());
        let (program, folder, place) = (program.to_owned(), folder.to_owned(), place.clone());
        Self { program, folder, database, s3, uploads, place, request_seconds }
    }

    fn key_file(&self) -> PathBuf {
        self.folder.join("signing-key")
    }

    /// Makes the signing key; gives its public half.
    pub fn write_key(&self) -> anyhow::Result<PublicKey> {
        let key = SecretKey::from_seed("chaos-1", [9; 32])?;
        std::fs::write(self.key_file(), key.to_secret_text()).context("the signing key")?;
        Ok(key.public_key())
    }
}

impl Server {
    /// A server that is not started yet.
    pub fn new(command: Settings) -> anyhow::Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0)).context("a server's port")?.local_addr()?.port();
        Ok(Self { url: format!("http://127.0.0.1:{port}"), command, process: Mutex::new(None) })
    }

    /// Starts it, where it does not run.
    pub async fn start(&self) -> anyhow::Result<()> {
        let mut process = self.process.lock().await;
        if process.is_some() {
            return Ok(());
        }
        let Settings { program, folder, database, s3, uploads, place, request_seconds } = &self.command;
        let address = self.url.trim_start_matches("http://");
        let name = address.replace(':', "-");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join(format!("server-{name}.log")))?;
        let child = Command::new(program)
            .env_clear()
            .env("NIKS3_HTTP_ADDR", address)
            .env("NIKS3_DB", place.database_at(database))
            .env("NIKS3_S3_ENDPOINT", format!("http://{s3}"))
            .env("NIKS3_S3_PUBLIC_ENDPOINT", format!("http://{uploads}"))
            .env("NIKS3_S3_BUCKET", &place.name)
            .env("NIKS3_S3_ACCESS_KEY", &place.access_key)
            .env("NIKS3_S3_SECRET_KEY", &place.secret_key)
            .env("NIKS3_S3_REQUEST_TIMEOUT", format!("{request_seconds}s"))
            .env("NIKS3_PRESIGN_EXPIRY", "60s")
            .env("NIKS3_API_TOKEN", TOKEN)
            .env("NIKS3_SIGN_KEY_PATHS", self.command.key_file())
            .env("NIKS3_ENABLE_READ_PROXY", "true")
            .env("NIKS3_CACHE_URL", &self.url)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        *process = Some(child);
        Ok(())
    }

    /// SIGKILL.
    pub async fn kill(&self) -> anyhow::Result<()> {
        if let Some(mut child) = self.process.lock().await.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Whether its process ended by itself, which it never should.
    pub async fn has_died(&self) -> bool {
        match self.process.lock().await.as_mut() {
            Some(child) => matches!(child.try_wait(), Ok(Some(_))),
            None => false,
        }
    }

    /// Waits until it can serve.
    pub async fn wait_until_ready(&self, http: &reqwest::Client) -> anyhow::Result<()> {
        let give_up = Instant::now() + STARTS_WITHIN;
        loop {
            let answer = http.get(format!("{}/readyz", self.url)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if self.has_died().await || Instant::now() > give_up {
                bail!("{} is not ready; its log is in {}", self.url, self.command.folder.display());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}
