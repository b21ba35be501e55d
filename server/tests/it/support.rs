//! A server of each test's own: a database, a bucket, a signing key and a port that nothing else uses.

pub(crate) mod closure;
pub(crate) mod crash;
pub(crate) mod dice;
pub(crate) mod inspect;
pub(crate) mod issuer;
pub(crate) mod lesser;
pub(crate) mod minio;
pub(crate) mod nix;
pub(crate) mod relay;
pub(crate) mod sts;
pub(crate) mod throttle;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use niks3_protocol::nix::{PublicKey, SecretKey};
use niks3_protocol::server_config::{AuthSection, MigrationMode, ReadMode};
use niks3_server::app::Settings;
use niks3_server::bucket::{BucketConfig, StaticCredentials};
use niks3_server::db::{Connections, Database};
use niks3_server::serve;
use niks3_server::settings::Parts;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The token that may do everything.
pub(crate) const ADMIN: &str = "test-token-of-the-admin-0123456789abcdef";

/// A running server.
pub(crate) struct TestServer {
    /// Its origin, without a slash at the end.
    pub(crate) url: String,
    /// Speaks to it, without following redirects or undoing encodings.
    pub(crate) http: reqwest::Client,
    /// What signs its narinfos.
    pub(crate) public_key: PublicKey,
    place: Place,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Where a server keeps its things; several servers may share one.
#[derive(Clone)]
pub(crate) struct Place {
    database: PgConnectOptions,
    bucket: String,
    folder: Arc<TempDir>,
}

impl TestServer {
    /// A server with a place of its own, ready for requests.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, its configuration changed first.
    pub(crate) async fn with(change: impl FnOnce(&mut Parts)) -> Self {
        Self::at(Place::create().await, change).await
    }

    /// The same at a place that the test knows already.
    pub(crate) async fn at(place: Place, change: impl FnOnce(&mut Parts)) -> Self {
        let server = Self::launch(place, change).await;
        server.wait_until_ready().await;
        server
    }

    /// Another server on the same database and bucket.
    pub(crate) async fn replica(&self, change: impl FnOnce(&mut Parts)) -> Self {
        Self::at(self.place.clone(), change).await
    }

    /// Starts a server and does not wait for what it needs.
    pub(crate) async fn launch(place: Place, change: impl FnOnce(&mut Parts)) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = SecretKey::from_seed("test-1", [7; 32]).unwrap();
        let mut parts = place.parts(&url, &key);
        change(&mut parts);
        let app = Arc::new(Box::pin(serve::open(parts)).await.unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async move {
                let _ = stopped.await;
            };
            serve::serve(app, listener, stopped).await.unwrap();
        });
        let http = reqwest::Client::builder()
            .timeout(Duration::from_mins(1))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { url, http, public_key: key.public_key(), place, stop: Some(stop), task }
    }

    /// A request with the admin's token.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_as(ADMIN, method, path)
    }

    /// A request with another token.
    pub(crate) fn request_as(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(token)
    }

    /// A request without any.
    pub(crate) fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// `GET` without a token.
    pub(crate) async fn get(&self, path: &str) -> Response {
        self.anonymous(Method::GET, path).send().await.unwrap()
    }

    /// Waits until `/readyz` says so; ten seconds at most.
    pub(crate) async fn wait_until_ready(&self) {
        let mut last = String::new();
        for _ in 0..200 {
            let answer = self.get("/readyz").await;
            if answer.status() == StatusCode::OK {
                return;
            }
            last = answer.text().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server is not ready after 10 s: {last}");
    }

    /// Tells it to stop and waits for its end.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        (&mut self.task).await.unwrap();
    }

    /// Where it keeps its things.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Place {
    /// An empty database, and the name of a bucket that does not exist yet.
    pub(crate) async fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("niks3-test-{}-{}-{count}", began(), std::process::id());
        let server: PgConnectOptions = environment("DATABASE_URL").parse().unwrap();
        let mut connection = server.connect().await.unwrap();
        let create = format!("create database \"{name}\" template template0");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self { database: server.database(&name), bucket: name, folder }
    }

    /// How a server is configured that nobody changed.
    pub(crate) fn parts(&self, url: &str, key: &SecretKey) -> Parts {
        let key_file = self.folder.path().join("signing-key");
        std::fs::write(&key_file, key.to_secret_text()).unwrap();
        Parts {
            database: Database {
                options: self.database.clone(),
                connections: Connections::at_most(10),
                schema: None,
                migrations: MigrationMode::Automatic,
            },
            bucket: BucketConfig {
                endpoint: Some(environment("NIKS3_TEST_S3_ENDPOINT")),
                bucket: self.bucket.clone(),
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
                store_dir: "/nix/store".to_owned(),
                read_mode: ReadMode::Proxy,
                s3_concurrency: 20,
                ..Settings::default()
            },
        }
    }

    /// A file in a folder that goes with the place.
    pub(crate) fn write_file(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    /// A folder that goes with the place.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The bucket's name.
    pub(crate) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// How to reach the database.
    pub(crate) fn database(&self) -> &PgConnectOptions {
        &self.database
    }
}

/// When this second was, in names: a bucket outside of e2e/services stays, and process ids come again.
fn began() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// The status and the sentence of a refusal, which has to be one of ours.
pub(crate) async fn refusal(response: Response) -> (StatusCode, String) {
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_client_error() || status.is_server_error(), "{status}: {text}");
    let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}, not JSON: {text:?}"));
    assert!(body["request_id"].is_string(), "{text}");
    (status, body["error"].as_str().unwrap().to_owned())
}

#[expect(clippy::disallowed_methods, reason = "tests are told by e2e/services where their services are")]
pub(crate) fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set; run the tests inside their services: e2e/services cargo test -p niks3-server"
        )
    })
}

/// A variable that need not be set.
#[expect(clippy::disallowed_methods, reason = "tests are told by e2e/services where their services are")]
pub(crate) fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `host:port` of S3.
pub(crate) fn s3_address() -> String {
    environment("NIKS3_TEST_S3_ENDPOINT").trim_start_matches("http://").to_owned()
}

/// A number for the choices of a randomized test: another each time, or the one to repeat.
#[expect(clippy::disallowed_methods, reason = "a run is repeated by hand")]
pub(crate) fn seed() -> u64 {
    let random = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into();
    std::env::var("NIKS3_TEST_SEED").map_or_else(|_| random(), |seed| seed.parse().unwrap())
}

/// How long a randomized test goes on.
#[expect(clippy::disallowed_methods, reason = "long runs are asked for by hand")]
pub(crate) fn seconds_of_races() -> u64 {
    std::env::var("NIKS3_TEST_SECONDS").map_or(7, |seconds| seconds.parse().unwrap())
}
