//! S3 that is asked too much: the client is told so, and when to come again; and the server asks less.

use std::time::{Duration, Instant};

use niks3_protocol::api::health::Dependency;
use reqwest::{Method, Response, StatusCode};

use crate::support::closure::{TestPath, begin_request};
use crate::support::throttle::Throttle;
use crate::support::{ADMIN, TestServer, refusal};

async fn slow_down(answer: Response) {
    let after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let (status, text) = refusal(answer).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{text}");
    let after: u64 = after.unwrap().parse().unwrap();
    assert!((1..=8).contains(&after), "what S3 said, or when there is a turn again: {after}");
}

#[tokio::test]
async fn a_client_is_told_when_s3_wants_to_be_asked_again() {
    let s3 = Throttle::start().await;
    let url = s3.url.clone();
    let server = TestServer::with(|parts| parts.bucket.endpoint = Some(url)).await;
    let path = TestPath::new("path", &[]);
    let begun = server.begin(ADMIN, &begin_request(&path, &[&path])).await;
    server.upload(ADMIN, &begun, &[&path]).await;

    s3.set(true);
    let answer = server.complete(ADMIN, &begun.id).await;
    assert_eq!(answer.headers()["retry-after"], "7");
    slow_down(answer).await;
    let mut large = begin_request(&path, &[&path]);
    large.objects[1].key = TestPath::with_nar("large", b"large".to_vec(), &[]).nar_key();
    large.objects[1].nar_size = Some(20 << 20);
    slow_down(server.request(Method::POST, "/api/pending_closures").json(&large).send().await.unwrap()).await;
    slow_down(server.get(&format!("/{}", path.key())).await).await;
    assert!(s3.refused() >= 3);
    server.wait_for_check(Dependency::Storage, false).await;
    let told = server.get("/metrics").await.text().await.unwrap();
    assert!(told.contains("niks3_s3_calls_total{operation=\"head\",result=\"throttled\"}"), "{told}");

    // It is asked ever faster again, and nothing is lost.
    s3.set(false);
    server.wait_until_ready().await;
    let mut committed = server.complete(ADMIN, &begun.id).await;
    for _ in 0..50 {
        if committed.status() == StatusCode::NO_CONTENT {
            break;
        }
        slow_down(committed).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        committed = server.complete(ADMIN, &begun.id).await;
    }
    assert_eq!(committed.status(), StatusCode::NO_CONTENT);
    assert_eq!(server.get(&format!("/{}", path.key())).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn s3_is_asked_no_faster_than_was_said() {
    let server = TestServer::with(|parts| parts.bucket.rate_limit = 20).await;
    let leaves: Vec<TestPath> = (0..14).map(|number| TestPath::new(&format!("leaf-{number}"), &[])).collect();
    let root = TestPath::new("root", &leaves.iter().collect::<Vec<_>>());
    let paths: Vec<&TestPath> = std::iter::once(&root).chain(&leaves).collect();
    let begun = server.begin(ADMIN, &begin_request(&root, &paths)).await;
    server.upload(ADMIN, &begun, &paths).await;
    let started = Instant::now();
    let answer = server.complete(ADMIN, &begun.id).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    // 30 looks and 15 narinfos, 50 ms apart.
    assert!(started.elapsed() >= Duration::from_millis(44 * 50), "{:?}", started.elapsed());
}
