//! Variables that no other test tells the program, and what each does over the wire.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use niks3_protocol::api::WhoAmI;
use tokio::net::TcpListener;

use crate::start::{Running, program, variables};
use crate::support::closure::{TestPath, begin_request};
use crate::support::inspect::s3_at;
use crate::support::minio::{Minio, ROOT, ROOT_SECRET};
use crate::support::{ADMIN, Place, TestServer, environment, refusal};

/// The program, and a client of it.
struct Told {
    server: TestServer,
    log: PathBuf,
    _process: Running,
}

impl Told {
    /// Told all that a server needs but the variables of these names, and these beside it.
    async fn start(less: &[&str], more: &[(&str, &str)]) -> Self {
        Self::run(Place::create().await, program(), less, more).await
    }

    async fn run(place: Place, mut program: Command, less: &[&str], more: &[(&str, &str)]) -> Self {
        // Makes the bucket, and is who asks afterwards.
        let mut server = TestServer::at(place, |_| {}).await;
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let log = server.place().folder().join("log");
        let told = variables(server.place()).into_iter().filter(|(name, _)| !less.contains(name));
        let child = program
            .envs(told)
            .env("NIKS3_HTTP_ADDR", &free)
            .envs(more.iter().copied())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let process = Running(child);
        server.url = format!("http://{free}");
        for _ in 0..400 {
            let answer = server.anonymous(Method::GET, "/readyz").send().await;
            if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                return Self { server, log, _process: process };
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it is not ready: {}", std::fs::read_to_string(&log).unwrap());
    }

    async fn substituter(&self) -> String {
        let config = self.server.get("/api/cache-config").await;
        let config: serde_json::Value = config.json().await.unwrap();
        config["substituter_url"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn keys_of_s3_come_from_the_files_that_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, variable: &str| {
        let path = folder.path().join(name);
        // As an editor leaves it.
        std::fs::write(&path, format!("{}\n", environment(variable))).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let (id, secret) = (file("id", "NIKS3_TEST_S3_ACCESS_KEY"), file("secret", "NIKS3_TEST_S3_SECRET_KEY"));
    let files = [("NIKS3_S3_ACCESS_KEY_PATH", id.as_str()), ("NIKS3_S3_SECRET_KEY_PATH", &secret)];
    let told = Told::start(&["NIKS3_S3_ACCESS_KEY", "NIKS3_S3_SECRET_KEY"], &files).await;
    let path = TestPath::new("path", &[]);
    told.server.push(&[&path]).await;
    assert_eq!(told.server.get(&format!("/{}", path.key())).await.status(), StatusCode::OK);
    // As in niks3 1.7 a file counts before a variable.
    let wrong = [files[0], files[1], ("NIKS3_S3_SECRET_KEY", "not-the-secret")];
    Told::start(&[], &wrong).await;
}

#[tokio::test]
async fn the_servers_url_stands_in_for_the_caches() {
    let own = ("NIKS3_SERVER_URL", "https://push.example");
    let told = Told::start(&["NIKS3_CACHE_URL"], &[own]).await;
    assert_eq!(told.substituter().await, "https://push.example");
    let told = Told::start(&[], &[own]).await;
    assert_eq!(told.substituter().await, "https://cache.example");
}

#[tokio::test]
async fn the_subject_is_in_the_header_that_is_named() {
    let headers = [
        ("NIKS3_MTLS_PROXY_HEADER", "X-Verified"),
        ("NIKS3_MTLS_PROXY_ADDRESSES", "127.0.0.1"),
        ("NIKS3_MTLS_SUBJECT_HEADER", "X-Subject"),
    ];
    let told = Told::start(&[], &headers).await;
    let ask = async |name: &str| {
        let request = told.server.anonymous(Method::GET, "/api/whoami").header("x-verified", "SUCCESS");
        request.header(name, "CN=builder").send().await.unwrap()
    };
    let identity: WhoAmI = ask("x-subject").await.json().await.unwrap();
    assert_eq!(identity.identity, "certificate:CN=builder");
    assert_eq!(refusal(ask("x-ssl-client-dn").await).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn more_is_logged_where_that_is_asked_for() {
    for (value, detailed) in [("true", true), ("1", true), ("false", false), ("", false)] {
        let told = Told::start(&[], &[("NIKS3_DEBUG", value)]).await;
        assert_eq!(told.server.get("/nix-cache-info").await.status(), StatusCode::OK);
        let log = std::fs::read_to_string(&told.log).unwrap();
        assert!(log.contains("listening"), "{log}");
        assert_eq!(log.contains("\"level\":\"DEBUG\""), detailed, "{value:?}: {log}");
        assert!(!log.contains(ADMIN), "{log}");
    }
}

/// How many looks at objects are under way in front of the tests' S3 server, and were at most.
#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
    http: reqwest::Client,
}

async fn count(
    State(counts): State<Arc<Counts>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let looks = method == Method::HEAD;
    if looks {
        let now = counts.now.fetch_add(1, Ordering::SeqCst) + 1;
        counts.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let target = format!("{}{uri}", environment("NIKS3_TEST_S3_ENDPOINT"));
    let real = counts.http.request(method, target).headers(headers).body(body).send().await.unwrap();
    let mut answer = Response::builder().status(real.status());
    for (name, value) in real.headers() {
        answer = answer.header(name, value);
    }
    let answer = answer.body(Body::from(real.bytes().await.unwrap())).unwrap();
    if looks {
        counts.now.fetch_sub(1, Ordering::SeqCst);
    }
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_has_as_many_requests_to_s3_under_way_as_it_may() {
    let counts = Arc::new(Counts::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = listener.local_addr().unwrap().to_string();
    let router = Router::new().fallback(count).with_state(Arc::clone(&counts));
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let limit = [("NIKS3_S3_ENDPOINT", front.as_str()), ("NIKS3_S3_CONCURRENCY", "3")];
    let told = Told::start(&[], &limit).await;
    let paths: Vec<TestPath> = (0..12).map(|number| TestPath::new(&format!("path-{number}"), &[])).collect();
    told.server.push(&paths.iter().collect::<Vec<_>>()).await;
    assert_eq!(counts.most.load(Ordering::SeqCst), 3);
    task.abort();
}

/// The program where it finds these names, which no DNS knows; none where nobody may make a mount namespace.
fn where_names_lead_here(place: &Place, names: &str) -> Option<Command> {
    let hosts = place.write_file("hosts", &format!("127.0.0.1 {names}\n"));
    let mount = "mount --bind \"$1\" /etc/hosts && exec \"$2\"";
    let inside = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", mount, "sh", &hosts, program]);
        command.env_clear().env("PATH", environment("PATH"));
        command
    };
    let may = inside("true").output().is_ok_and(|output| output.status.success());
    may.then(|| inside(env!("CARGO_BIN_EXE_niks3-server")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bucket_may_be_in_the_hosts_name() {
    let place = Place::create().await;
    let host = format!("{}.s3.test", place.bucket());
    // Not `s3.test` itself: with the bucket in the path nothing is found.
    let Some(program) = where_names_lead_here(&place, &host) else {
        println!(
            "not tested: this machine lets nobody make a mount namespace (unshare --map-root-user --mount)"
        );
        return;
    };
    let minio = Minio::run(place.folder(), &[("MINIO_DOMAIN", "s3.test")]).await;
    s3_at(&minio.url, ROOT, ROOT_SECRET).create_bucket().bucket(place.bucket()).send().await.unwrap();
    let endpoint = minio.url.replace("http://127.0.0.1", "s3.test");
    let told = [
        ("NIKS3_S3_ENDPOINT", endpoint.as_str()),
        ("NIKS3_S3_BUCKET_LOOKUP", "dns"),
        ("NIKS3_S3_ACCESS_KEY", ROOT),
        ("NIKS3_S3_SECRET_KEY", ROOT_SECRET),
    ];
    let mut told = Told::run(place, program, &[], &told).await;
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    told.server.http = builder.resolve(&host, ([127, 0, 0, 1], 0).into()).build().unwrap();

    let (path, begun_only) = (TestPath::new("path", &[]), TestPath::new("begun", &[]));
    let begun = told.server.begin(ADMIN, &begin_request(&begun_only, &[&begun_only])).await;
    let key = begun_only.nar_key();
    let address = begun.pending_objects[&key].presigned_url.as_ref().unwrap();
    let port = minio.url.rsplit_once(':').unwrap().1;
    assert!(address.starts_with(&format!("http://{host}:{port}/{key}?")), "{address}");
    told.server.push(&[&path]).await;
    for key in [path.key(), path.nar_key(), path.listing_key()] {
        assert_eq!(told.server.get(&format!("/{key}")).await.status(), StatusCode::OK, "{key}");
    }
    // Many are deleted by a call of the bucket's own address.
    told.server.place().sql("update closures set updated_at = now() - interval '2 hours'").await;
    let run = told.server.collect("older-than=1h&force=true").await;
    assert_eq!((run.stats.objects_deleted_after_grace_period, run.stats.objects_failed_to_delete), (3, 0));
}
