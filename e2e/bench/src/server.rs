//! A server to measure, on a database and a bucket of its own.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use niks3_server::bucket::{Bucket, BucketConfig, StaticCredentials};
use reqwest::{Client, StatusCode};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// The token that both servers take.
pub(crate) const TOKEN: &str = "0123456789012345678901234567890123456789";

/// What `e2e/services` started.
#[derive(Debug, Clone, Args)]
pub(crate) struct Services {
    /// PostgreSQL.
    #[arg(long, env = "DATABASE_URL")]
    database_url: String,
    /// The S3 server's URL.
    #[arg(long, env = "NIKS3_TEST_S3_ENDPOINT")]
    pub(crate) s3_endpoint: String,
    #[arg(long, env = "NIKS3_TEST_S3_ACCESS_KEY")]
    s3_access_key: String,
    #[arg(long, env = "NIKS3_TEST_S3_SECRET_KEY", hide_env_values = true)]
    s3_secret_key: String,
    /// Where the S3 server keeps buckets: a bench of many rounds removes those it is done with.
    #[arg(long, env = "NIKS3_TEST_S3_FOLDER")]
    s3_folder: PathBuf,
    /// The processes of PostgreSQL's and the S3 server's parents, for their time on the cores.
    #[arg(long, env = "NIKS3_TEST_SERVICE_PIDS", value_delimiter = ' ')]
    pids: Vec<u32>,
}

impl Services {
    /// Host and port of S3.
    pub(crate) fn s3_host(&self) -> &str {
        self.s3_endpoint.trim_start_matches("http://")
    }

    /// A bucket, as our server sees it.
    pub(crate) async fn bucket(&self, name: &str) -> anyhow::Result<Bucket> {
        let credentials = StaticCredentials {
            access_key: self.s3_access_key.clone(),
            secret_key: self.s3_secret_key.clone(),
        };
        let config = BucketConfig {
            endpoint: Some(self.s3_endpoint.clone()),
            bucket: name.to_owned(),
            region: "us-east-1".to_owned(),
            path_style: true,
            credentials: Some(credentials),
            request_timeout: Duration::from_secs(30),
            ..BucketConfig::default()
        };
        Ok(Bucket::open(config).await?)
    }

    /// Seconds that PostgreSQL and S3 have spent on the cores, with what PostgreSQL has for each connection, also
    /// those that have ended.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        let mut seconds = 0.0;
        for pid in &self.pids {
            seconds += ticks(&pid.to_string(), 11)? + ticks(&pid.to_string(), 13)?;
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
            // One that ended meanwhile counts for its parent already, or in a moment.
            seconds += children.split_whitespace().filter_map(|child| ticks(child, 11).ok()).sum::<f64>();
        }
        Ok(seconds)
    }

    async fn sql(&self, statement: &str) -> anyhow::Result<()> {
        run(Command::new("psql").args(["--quiet", "--command", statement, &self.database_url]))
            .await
            .map(drop)
    }

    /// The URL of another database of the same PostgreSQL.
    fn database(&self, name: &str) -> anyhow::Result<String> {
        let (server, _) = self.database_url.rsplit_once('/').context("DATABASE_URL names no database")?;
        Ok(format!("{server}/{name}?sslmode=disable"))
    }

    /// A request to S3 without a body; gives the answer's.
    pub(crate) async fn s3(&self, method: &str, path: &str) -> anyhow::Result<String> {
        let url = format!("{}/{path}", self.s3_endpoint);
        let user = format!("{}:{}", self.s3_access_key, self.s3_secret_key);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--request", method]);
        curl.args([
            "--aws-sigv4",
            "aws:amz:us-east-1:s3",
            "--header",
            "x-amz-content-sha256: UNSIGNED-PAYLOAD",
        ]);
        run(curl.args(["--user", &user, &url])).await
    }
}

/// Runs a program; gives its stdout.
pub(crate) async fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.kill_on_drop(true).output().await.with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whose programs.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) folder: PathBuf,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) bucket: String,
    /// From its start to its first word that it is ready; the database was there before.
    pub(crate) ready: Duration,
    pub(crate) http: Client,
    folder: TempDir,
    services: Services,
    child: Child,
}

impl Server {
    pub(crate) async fn start(program: &Program, services: &Services) -> anyhow::Result<Self> {
        Self::told(program, services, &[]).await
    }

    /// With these variables beside what both servers are told.
    pub(crate) async fn told(
        program: &Program,
        services: &Services,
        more: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let (url, bucket) =
            (format!("http://{address}"), format!("bench-{}-{}", std::process::id(), address.port()));
        services.sql(&format!("create database \"{bucket}\" template template0")).await?;
        services.s3("PUT", &bucket).await?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("token"), TOKEN)?;
        let key = run(Command::new("nix").args([
            "--extra-experimental-features",
            "nix-command",
            "key",
            "generate-secret",
            "--key-name",
            "bench-1",
        ]))
        .await?;
        std::fs::write(folder.path().join("key"), key)?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let begun = Instant::now();
        let child = Command::new(program.folder.join("niks3-server"))
            .env("NIKS3_DB", services.database(&bucket)?)
            .env("NIKS3_HTTP_ADDR", address.to_string())
            .env("NIKS3_S3_BUCKET", &bucket)
            .env("NIKS3_S3_ENDPOINT", services.s3_endpoint.trim_start_matches("http://"))
            .env("NIKS3_S3_USE_SSL", "false")
            .env("NIKS3_S3_REGION", "us-east-1")
            .env("NIKS3_S3_ACCESS_KEY", &services.s3_access_key)
            .env("NIKS3_S3_SECRET_KEY", &services.s3_secret_key)
            .env("NIKS3_API_TOKEN", TOKEN)
            .env("NIKS3_SIGN_KEY_PATHS", folder.path().join("key"))
            .env("NIKS3_CACHE_URL", &url)
            .env("NIKS3_ENABLE_READ_PROXY", "true")
            .envs(more.iter().copied())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{}/niks3-server does not start", program.folder.display()))?;
        let http = Client::builder().timeout(Duration::from_mins(5)).build()?;
        let services = services.clone();
        let mut started = Self { url, bucket, ready: Duration::ZERO, http, folder, services, child };
        while !started.is_ready().await {
            ensure!(
                begun.elapsed() < Duration::from_secs(30),
                "{} is not ready: {}",
                program.name,
                started.log()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        started.ready = begun.elapsed();
        Ok(started)
    }

    /// Ours says by `/readyz` when it serves; niks3 1.7 has only `/health`, and listens when it serves.
    async fn is_ready(&self) -> bool {
        let get = async |path: &str| self.http.get(format!("{}{path}", self.url)).send().await;
        match get("/readyz").await {
            Ok(answer) if answer.status() == StatusCode::NOT_FOUND => {
                get("/health").await.is_ok_and(|answer| answer.status().is_success())
            }
            answer => answer.is_ok_and(|answer| answer.status().is_success()),
        }
    }

    /// Gives its database so many objects of nobody's. Both servers' tables have a key and do without the rest.
    pub(crate) async fn fill(&self, others: u64) -> anyhow::Result<()> {
        let fill = format!(
            "insert into objects (key) select md5(i::text) || '.narinfo' from generate_series(1, {others}) as i"
        );
        let database = self.services.database(&self.bucket)?;
        let both = ["--quiet", "--command", &fill, "--command", "vacuum analyze objects", &database];
        run(Command::new("psql").args(both)).await.map(drop)
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// `VmRSS` (now) or `VmHWM` (the most so far), in MiB.
    pub(crate) fn memory(&self, field: &str) -> f64 {
        self.child.id().and_then(|id| memory(id, field)).unwrap_or_default()
    }

    /// A client for this server, of those programs.
    pub(crate) fn client(&self, program: &Program) -> Command {
        let mut command = Command::new(program.folder.join("niks3"));
        command
            .env("NIKS3_SERVER_URL", &self.url)
            .env("NIKS3_AUTH_TOKEN_FILE", self.folder.path().join("token"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Seconds that it has spent on the cores.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        ticks(&self.child.id().context("the server has ended")?.to_string(), 11)
    }

    /// Ends it, its database and its bucket.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        self.services.sql(&format!("drop database \"{}\" with (force)", self.bucket)).await?;
        // versitygw keeps what objects are said to be beside them.
        let buckets = &self.services.s3_folder;
        for folder in [buckets.join(&self.bucket), buckets.with_file_name("meta").join(&self.bucket)] {
            std::fs::remove_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        }
        Ok(())
    }
}

/// Seconds of `/proc/ID/stat`: user and system time, fields 11 and 12 after the name; those of children that have ended
/// are 13 and 14.
pub(crate) fn ticks(id: &str, first: usize) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // After the name, which may hold anything: the state, then numbers.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after.split_whitespace().skip(first).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

/// A field of `/proc/ID/status`, in MiB; `None` once the process has ended.
pub(crate) fn memory(id: u32, field: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}
