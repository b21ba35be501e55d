//! Being ready, losing what it needs, and getting it back by itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use niks3_protocol::api::health::{Dependency, Readiness, ReadinessCheck};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::closure::{TestPath, begin_request};
use crate::support::relay::Relay;
use crate::support::{ADMIN, Place, TestServer, environment, refusal, s3_address};

impl TestServer {
    pub(crate) async fn readiness(&self) -> (StatusCode, Readiness) {
        let answer = self.get("/readyz?verbose").await;
        (answer.status(), answer.json().await.unwrap())
    }

    /// The check of a dependency once it is as wanted; ten seconds at most.
    pub(crate) async fn wait_for_check(&self, name: Dependency, ok: bool) -> ReadinessCheck {
        for _ in 0..100 {
            let (_, readiness) = self.readiness().await;
            let check = readiness.checks.into_iter().find(|check| check.name == name).unwrap();
            if check.ok == ok {
                return check;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{name:?} should have become ok: {ok}");
    }

    /// Reason and sentence of a check that is not ok, once they begin so; ten seconds at most.
    pub(crate) async fn wait_for_problem(&self, name: Dependency, begin: &str) -> String {
        let mut last = String::new();
        for _ in 0..100 {
            let (_, readiness) = self.readiness().await;
            let check = readiness.checks.into_iter().find(|check| check.name == name).unwrap();
            last = format!("{}: {}", check.reason, check.message);
            if !check.ok && last.starts_with(begin) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{name:?} should have become {begin}, and is {last}");
    }

    async fn is_alive(&self) {
        for path in ["/livez", "/health", "/metrics"] {
            assert_eq!(self.get(path).await.status(), StatusCode::OK, "{path}");
        }
    }
}

#[tokio::test]
async fn a_ready_server_says_so() {
    let server = TestServer::start().await;
    server.is_alive().await;
    assert_eq!(server.get("/health").await.text().await.unwrap(), "OK");
    let (status, readiness) = server.readiness().await;
    assert_eq!(status, StatusCode::OK);
    assert!(readiness.ready && readiness.checks.len() >= 3 && readiness.checks.iter().all(|check| check.ok));

    let path = TestPath::new("counted", &[]);
    server.push(&[&path]).await;
    let text = server.get("/metrics").await.text().await.unwrap();
    let counted =
        "niks3_http_requests_total{method=\"POST\",route=\"/api/pending_closures\",status=\"200\"} 1";
    assert!(text.contains(counted), "{text}");
    assert!(text.contains("niks3_auth_attempts_total{outcome=\"accepted\"}") && text.ends_with("# EOF\n"));
    assert!(!text.contains(&path.key()), "no key becomes a label");
    server.stop().await;
}

#[tokio::test]
async fn without_its_database_it_lives_refuses_pushes_and_recovers() {
    let place = Place::create().await;
    let target = environment("DATABASE_URL");
    let target = target.split('@').nth(1).unwrap().split('/').next().unwrap().to_owned();
    let mut relay = Relay::to(&target).await;
    let port = relay.address.port();
    // The database is away when the server starts.
    let server = TestServer::launch(place, |parts| {
        parts.database.options = parts.database.options.clone().host("127.0.0.1").port(port);
    })
    .await;
    server.is_alive().await;
    let path = TestPath::new("path", &[]);
    let begin = async || {
        let request = server.request(Method::POST, "/api/pending_closures");
        request.json(&begin_request(&path, &[&path])).send().await.unwrap()
    };
    let check = server.wait_for_check(Dependency::Database, false).await;
    assert!(!check.message.is_empty() && !check.message.contains("127.0.0.1"), "{check:?}");
    assert_eq!(server.get("/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(begin().await.status(), StatusCode::SERVICE_UNAVAILABLE);

    relay.up();
    server.wait_until_ready().await;
    let begun = server.begin(ADMIN, &begin_request(&path, &[&path])).await;
    server.upload(ADMIN, &begun, &[&path]).await;

    relay.down().await;
    let check = server.wait_for_check(Dependency::Database, false).await;
    assert_eq!(check.reason, "ConnectionFailed");
    server.is_alive().await;
    for answer in [begin().await, server.complete(ADMIN, &begun.id).await] {
        assert!(answer.headers().contains_key("retry-after"));
        let (status, text) = refusal(answer).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
        assert!(text.contains("database is not available"), "{text}");
    }
    let (_, readiness) = server.readiness().await;
    let storage = readiness.checks.iter().find(|check| check.name == Dependency::Storage).unwrap();
    assert!(storage.ok, "{storage:?}");

    // By itself, and the push goes on where it was.
    relay.up();
    server.wait_until_ready().await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn without_its_bucket_it_lives_refuses_pushes_and_recovers() {
    let (place, mut relay) = (Place::create().await, Relay::to(&s3_address()).await);
    let url = format!("http://{}", relay.address);
    let server = TestServer::launch(place, |parts| {
        parts.bucket.public_endpoint = parts.bucket.endpoint.replace(url);
        parts.bucket.request_timeout = Duration::from_secs(1);
    })
    .await;
    server.is_alive().await;
    let check = server.wait_for_check(Dependency::Storage, false).await;
    assert_eq!(check.reason, "EndpointUnreachable");
    assert!(check.message.contains("Connection refused"), "{check:?}");
    // nix-cache-info and the landing page need no bucket.
    assert_eq!(server.get("/nix-cache-info").await.status(), StatusCode::OK);

    relay.up();
    server.wait_until_ready().await;
    let path = TestPath::new("path", &[]);
    let begun = server.begin(ADMIN, &begin_request(&path, &[&path])).await;
    server.upload(ADMIN, &begun, &[&path]).await;

    relay.down().await;
    server.wait_for_check(Dependency::Storage, false).await;
    let text = server.get("/readyz").await.text().await.unwrap();
    assert!(text.contains("Storage: EndpointUnreachable"), "{text}");
    server.is_alive().await;
    let mut large = begin_request(&path, &[&path]);
    large.objects[1].key = TestPath::with_nar("large", b"large".to_vec(), &[]).nar_key();
    large.objects[1].nar_size = Some(20 << 20);
    let begin = server.request(Method::POST, "/api/pending_closures").json(&large).send().await.unwrap();
    for answer in [server.complete(ADMIN, &begun.id).await, begin] {
        let (status, text) = refusal(answer).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
        assert!(text.contains("storage is not available (EndpointUnreachable)"), "{text}");
    }
    assert_eq!(server.get(&format!("/{}", path.key())).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let committed = server.place().rows::<(i64,)>("select count(*) from closures").await;
    assert_eq!(committed, [(0,)], "nothing is half committed");

    relay.up();
    server.wait_until_ready().await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(server.get(&format!("/{}", path.key())).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn what_is_not_there_is_said_in_a_sentence() {
    let server = TestServer::start().await;
    for (method, path, expected) in [
        (Method::GET, "/api/nothing", StatusCode::NOT_FOUND),
        (Method::PUT, "/api/pins/x", StatusCode::METHOD_NOT_ALLOWED),
        (Method::POST, "/x.narinfo", StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, "/api/closures/x", StatusCode::NOT_FOUND),
        (Method::GET, "/api/closures/a%00b", StatusCode::BAD_REQUEST),
    ] {
        let answer = server.request(method.clone(), path).send().await.unwrap();
        let (status, text) = refusal(answer).await;
        assert_eq!(status, expected, "{method} {path}: {text}");
    }
    let config: serde_json::Value = server.get("/api/cache-config").await.json().await.unwrap();
    assert_eq!(config["substituter_url"], server.url);
    assert_eq!(config["public_keys"], json!([server.public_key.to_string()]));
}

/// Answers 404 to everything, on connections that it keeps open after it is gone from the address.
async fn impostor(address: SocketAddr, met: Arc<AtomicBool>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let mut connections = Vec::new();
    while !met.load(Ordering::Relaxed) {
        let next = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        let Ok(Ok((mut client, _))) = next else { continue };
        let met = Arc::clone(&met);
        connections.push(tokio::spawn(async move {
            let mut request = vec![0; 8 << 10];
            while let Ok(1..) = client.read(&mut request).await {
                let _ = client.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
                met.store(true, Ordering::Relaxed);
            }
        }));
    }
}

#[tokio::test]
async fn a_connection_that_led_to_somebody_else_is_not_kept() {
    let (place, mut relay) = (Place::create().await, Relay::to(&s3_address()).await);
    let (url, met) = (format!("http://{}", relay.address), Arc::new(AtomicBool::new(false)));
    let impostor = tokio::spawn(impostor(relay.address, Arc::clone(&met)));
    let server = TestServer::launch(place, |parts| {
        parts.bucket.public_endpoint = parts.bucket.endpoint.replace(url);
    })
    .await;
    assert_eq!(server.wait_for_check(Dependency::Storage, false).await.reason, "BucketNotFound");
    impostor.await.unwrap();
    relay.up();
    server.wait_until_ready().await;
}
