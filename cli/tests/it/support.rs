//! What every test has: a server of its own, a Nix store of its own, and the program.

#[path = "../../../server/tests/it/support/minio.rs"]
pub(crate) mod minio;
pub(crate) mod nix;
pub(crate) mod program;
pub(crate) mod recorder;
pub(crate) mod relay;
pub(crate) mod script;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use niks3_protocol::nix::{PublicKey, SecretKey};
use niks3_protocol::server_config::{AuthSection, MigrationMode, ReadMode};
use niks3_server::app::{App, Settings};
use niks3_server::bucket::{BucketConfig, StaticCredentials};
use niks3_server::db::{Connections, Database};
use niks3_server::serve;
use niks3_server::settings::Parts;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use nix::NixStore;
use program::Niks3;
use relay::Relay;

/// The token that may do everything.
pub(crate) const ADMIN: &str = "test-token-of-the-admin-0123456789abcdef";

/// A server with a database, a bucket and a Nix store that nothing else uses.
pub(crate) struct Cache {
    pub(crate) url: String,
    pub(crate) app: Arc<App>,
    /// What Nix is to trust.
    pub(crate) public_key: PublicKey,
    /// The way by which the program reaches S3; the server itself goes straight there.
    pub(crate) s3: Relay,
    pub(crate) store: NixStore,
    pub(crate) folder: TempDir,
    task: JoinHandle<()>,
}

impl Cache {
    pub(crate) async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    /// The same, its configuration changed first; the folder is the cache's.
    pub(crate) async fn with(change: impl FnOnce(&mut Parts, &Path)) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (folder, store) = (tempfile::tempdir().unwrap(), NixStore::create());
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let s3 = Relay::to(environment("NIKS3_TEST_S3_ENDPOINT").trim_start_matches("http://"));
        let key = SecretKey::from_seed("test-1", [7; 32]).unwrap();
        let mut parts = parts(&folder, &url, &s3, &store, &key).await;
        change(&mut parts, folder.path());
        let url = if parts.tls.is_some() { url.replace("http://", "https://") } else { url };
        let app = Arc::new(serve::open(parts).await.unwrap());
        let running = Arc::clone(&app);
        let task = tokio::spawn(async move {
            serve::serve(running, listener, std::future::pending()).await.unwrap();
        });
        std::fs::write(folder.path().join("token"), ADMIN).unwrap();
        let cache = Self { url, app, public_key: key.public_key(), s3, store, folder, task };
        cache.wait_until_ready().await;
        cache
    }

    async fn wait_until_ready(&self) {
        // Of TLS only the one that a test is about is looked at.
        let http = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
        for _ in 0..200 {
            if http.get(format!("{}/readyz", self.url)).send().await.unwrap().status().is_success() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server is not ready after 10 s");
    }

    /// The program with those arguments, for this cache.
    pub(crate) fn niks3(&self, arguments: &[&str]) -> Niks3 {
        Niks3::new(arguments)
            .env("NIKS3_SERVER_URL", &self.url)
            .env("NIKS3_AUTH_TOKEN_FILE", self.token_file())
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .envs(self.store.variables())
            .hide(self.url.split_once("//").unwrap().1, "SERVER")
            .hide(&self.s3.address.to_string(), "S3")
            .hide(self.store.directory(), "/nix/store")
            .hide(&self.folder.path().display().to_string(), "FOLDER")
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// Requests answered so far, by method and route, except those of the tests themselves.
    pub(crate) async fn requests(&self) -> BTreeMap<String, u64> {
        let text = reqwest::get(format!("{}/metrics", self.url)).await.unwrap().text().await.unwrap();
        let mut requests = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("niks3_http_requests_total{")) {
            let (labels, count) = line.rsplit_once("} ").unwrap();
            let label =
                |name: &str| labels.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap();
            if label("route").starts_with("/api/") {
                let request = format!("{} {} {}", label("method"), label("route"), label("status"));
                *requests.entry(request).or_insert(0) += count.parse::<u64>().unwrap();
            }
        }
        requests
    }

    /// The number a query gives.
    pub(crate) async fn count(&self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&self.app.db).await.unwrap()
    }

    /// What readers see: `GET` of a key.
    pub(crate) async fn get(&self, key: &str) -> reqwest::Response {
        reqwest::get(format!("{}/{key}", self.url)).await.unwrap()
    }

    /// Asserts that nothing of a push became visible.
    pub(crate) async fn assert_nothing_committed(&self) {
        assert_eq!(self.count("select count(*) from closures").await, 0, "a closure was committed");
        assert_eq!(self.count("select count(*) from objects where live").await, 0, "an object is live");
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn parts(folder: &TempDir, url: &str, s3: &Relay, store: &NixStore, key: &SecretKey) -> Parts {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // Buckets outside of e2e/services stay, and process ids come again.
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let name = format!("niks3-cli-{now}-{}-{count}", std::process::id());
    let server: PgConnectOptions = environment("DATABASE_URL").parse().unwrap();
    let mut connection = server.connect().await.unwrap();
    let create = format!("create database \"{name}\" template template0");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let key_file = folder.path().join("signing-key");
    std::fs::write(&key_file, key.to_secret_text()).unwrap();
    Parts {
        database: Database {
            options: server.database(&name),
            connections: Connections::at_most(10),
            schema: None,
            migrations: MigrationMode::Automatic,
        },
        bucket: BucketConfig {
            endpoint: Some(environment("NIKS3_TEST_S3_ENDPOINT")),
            public_endpoint: Some(format!("http://{}", s3.address)),
            bucket: name,
            prefix: String::new(),
            region: "us-east-1".to_owned(),
            path_style: true,
            credentials: Some(StaticCredentials {
                access_key: environment("NIKS3_TEST_S3_ACCESS_KEY"),
                secret_key: environment("NIKS3_TEST_S3_SECRET_KEY"),
            }),
            request_timeout: Duration::from_secs(30),
            create_bucket: true,
            ..BucketConfig::default()
        },
        tls: None,
        signing_keys: vec![key_file],
        auth: AuthSection::default(),
        api_token: Some(ADMIN.to_owned()),
        oidc: None,
        settings: Settings {
            cache_url: url.to_owned(),
            store_dir: store.directory().to_owned(),
            read_mode: ReadMode::Proxy,
            s3_concurrency: 20,
            ..Settings::default()
        },
    }
}

#[expect(clippy::disallowed_methods, reason = "tests are told by e2e/services where their services are")]
pub(crate) fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set; run the tests inside their services: e2e/services cargo test -p niks3-cli")
    })
}

/// A variable that need not be set.
#[expect(clippy::disallowed_methods, reason = "tests are told by e2e/services where their programs are")]
pub(crate) fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
