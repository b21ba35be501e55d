//! The bucket at the start: whose it is, and whether all can be done in it that a cache does.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use niks3_protocol::api::health::{Dependency, Readiness, ReadinessCheck};
use reqwest::{Method, StatusCode};

use crate::support::closure::{TestPath, begin_request};
use crate::support::inspect::s3_at;
use crate::support::minio::{Minio, ROOT, ROOT_SECRET};
use crate::support::{Place, TestServer, environment, optional, refusal};

async fn storage(server: &TestServer) -> ReadinessCheck {
    let answer = server.get("/readyz?verbose").await;
    let readiness: Readiness = answer.json().await.unwrap();
    readiness.checks.into_iter().find(|check| check.name == Dependency::Storage).unwrap()
}

/// Waits until the server says this of its storage.
pub(crate) async fn wait_for_reason(server: &TestServer, reason: &str) -> ReadinessCheck {
    let mut last = storage(server).await;
    for _ in 0..100 {
        if last.reason == reason {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        last = storage(server).await;
    }
    panic!("{last:?} should have become {reason}");
}

#[tokio::test]
async fn two_caches_do_not_share_a_bucket_and_prefix() {
    let first = TestServer::start().await;
    let path = TestPath::new("path", &[]);
    first.push(&[&path]).await;
    let marker = first.place().stored_bytes(".niks3-cache").await;
    let info = first.place().stored_bytes("nix-cache-info").await;
    let bucket = first.place().bucket().to_owned();

    // Another database, the same bucket: it may neither push nor collect, and leaves what is there alone.
    let name = bucket.clone();
    let second = TestServer::launch(Place::create().await, move |parts| {
        parts.bucket.bucket = name;
        parts.settings.priority = 7;
    })
    .await;
    let check = wait_for_reason(&second, "StorageIdentityMismatch").await;
    assert!(check.message.contains("belongs to another cache"), "{check:?}");
    assert!(check.message.contains(std::str::from_utf8(&marker).unwrap().trim()), "{check:?}");
    assert_eq!(second.get("/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let begin = second.request(Method::POST, "/api/pending_closures").json(&begin_request(&path, &[&path]));
    let collect = second.request(Method::DELETE, "/api/closures?older-than=0s&force=true");
    let complete = second.request(Method::POST, "/api/pending_closures/1/complete");
    for request in [begin, collect, complete] {
        let (status, text) = refusal(request.send().await.unwrap()).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("(StorageIdentityMismatch)"), "{text}");
    }
    assert_eq!(first.place().stored_bytes("nix-cache-info").await, info);
    assert!(first.place().in_bucket(&path.key()).await);

    // A prefix of its own is a bucket of its own; and a replica is the same cache.
    let third = TestServer::with(|parts| {
        parts.bucket.bucket = bucket;
        parts.bucket.prefix = "third/".to_owned();
    })
    .await;
    third.push(&[&path]).await;
    first.replica(|_| {}).await.push(&[&path]).await;
    assert!(first.place().in_bucket("third/.niks3-cache").await);

    // Who replaced the database on purpose removes the marker.
    first.place().lose_object(".niks3-cache").await;
    second.wait_until_ready().await;
}

/// An S3 server of the test's own that lets nobody write.
struct ReadOnly(Child, String);

impl ReadOnly {
    async fn start(folder: &Path, bucket: &str) -> Self {
        std::fs::create_dir_all(folder.join("s3").join(bucket)).unwrap();
        std::fs::create_dir_all(folder.join("meta")).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let programs = optional("NIKS3_PROGRAMS").unwrap_or_else(|| {
            let home = environment("HOME");
            format!("{}/niks3/bin", optional("XDG_CACHE_HOME").unwrap_or(format!("{home}/.cache")))
        });
        let server = Command::new(format!("{programs}/versitygw"))
            .args(["--port", &address, "--quiet", "--readonly", "posix", "--sidecar"])
            .args([folder.join("meta"), folder.join("s3")])
            .env("ROOT_ACCESS_KEY", environment("NIKS3_TEST_S3_ACCESS_KEY"))
            .env("ROOT_SECRET_KEY", environment("NIKS3_TEST_S3_SECRET_KEY"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(&address).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self(server, format!("http://{address}"))
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let s3 = ReadOnly::start(folder.path(), "readable").await;
    let endpoint = s3.1.clone();
    let server = TestServer::launch(Place::create().await, move |parts| {
        parts.bucket.endpoint = Some(endpoint);
        parts.bucket.bucket = "readable".to_owned();
    })
    .await;
    let check = wait_for_reason(&server, "AccessDenied").await;
    assert!(check.message.contains("allow these credentials s3:PutObject"), "{check:?}");
    assert_eq!(server.get("/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
}

/// A secret that is not the key's, a key that nobody knows, and a region that is not S3's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_that_s3_refuses_is_said_to_be() {
    let home = Place::create().await;
    let minio = Minio::run(home.folder(), &[]).await;
    s3_at(&minio.url, ROOT, ROOT_SECRET).create_bucket().bucket(home.bucket()).send().await.unwrap();
    // MinIO, told of no region, takes every one.
    let regions_count = optional("NIKS3_TEST_S3").is_none_or(|s3| s3 == "versitygw");
    for of_minio in [false, true] {
        for wrong in ["secret", "key", "region"] {
            if wrong == "region" && (of_minio || !regions_count) {
                continue;
            }
            let (url, bucket) = (minio.url.clone(), home.bucket().to_owned());
            let server = TestServer::launch(Place::create().await, move |parts| {
                let keys = parts.bucket.credentials.as_mut().unwrap();
                if of_minio {
                    (keys.access_key, keys.secret_key) = (ROOT.to_owned(), ROOT_SECRET.to_owned());
                    (parts.bucket.endpoint, parts.bucket.bucket) = (Some(url), bucket);
                }
                match wrong {
                    "secret" => keys.secret_key.push('x'),
                    "key" => keys.access_key.push('x'),
                    _ => parts.bucket.region = "elsewhere-1".to_owned(),
                }
            })
            .await;
            let check = wait_for_reason(&server, "SignatureRejected").await;
            assert!(!check.message.contains(ROOT_SECRET), "{check:?}");
            let ready = server.get("/readyz").await;
            assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE, "{wrong}, MinIO: {of_minio}");
            let read = server.get(&format!("/{}", TestPath::new("path", &[]).nar_key())).await;
            let (status, text) = refusal(read).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{wrong}, MinIO: {of_minio}: {text}");
            assert!(text.contains("(SignatureRejected)"), "{wrong}, MinIO: {of_minio}: {text}");
        }
    }
}
