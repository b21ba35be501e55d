//! S3 that is asked too much: the client is told so, and when to come again; and the server asks less.

use std::time::{Duration, Instant};

use niks3_protocol::api::health::Dependency;
use niks3_protocol::object_key::ObjectKey;
use niks3_server::bucket::{Bucket, BucketConfig, BucketError, Deletion, Failure, ReadAnswer, ReadRequest};
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
async fn what_is_read_is_asked_for_again_and_a_narinfo_is_sent_once() {
    let s3 = Throttle::start().await;
    let mut config = BucketConfig::default();
    let server = TestServer::with(|parts| config = parts.bucket.clone()).await;
    let path = TestPath::new("path", &[]);
    server.push(&[&path]).await;
    config.endpoint = Some(s3.url.clone());
    let bucket = Bucket::open(config).await.unwrap();
    let stored = async || match bucket.get(&path.key(), ReadRequest::default()).await.unwrap() {
        ReadAnswer::Found(object) => object.read_up_to(1 << 20).await.unwrap(),
        other => panic!("{other:?}"),
    };
    let before = stored().await;
    let key = path.nar_key();
    let throttled =
        |error: BucketError| matches!(error.failure, Failure::Throttled(after) if after.as_secs() == 7);

    s3.refuse_next(2);
    assert!(matches!(bucket.get(&key, ReadRequest::default()).await.unwrap(), ReadAnswer::Found(_)));
    s3.refuse_next(1);
    assert!(bucket.head(&key).await.unwrap().is_some());
    assert_eq!(s3.refused(), 3);
    s3.refuse_next(4);
    assert!(throttled(bucket.head(&key).await.unwrap_err()));
    assert_eq!(s3.refused(), 6, "three times, and not once more");

    // A retry that nobody knows of could replace what another commit wrote since: docs/gc.md.
    s3.refuse_next(1);
    let narinfo: ObjectKey = path.key().parse().unwrap();
    assert!(throttled(bucket.put_once(&narinfo, b"other".to_vec()).await.unwrap_err()));
    assert_eq!(s3.refused(), 7);
    assert_eq!(stored().await, before);
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

/// What waits too long for its turn did not go out: the key does not stay claimed for it, as after a lost answer.
#[tokio::test]
async fn a_delete_that_was_not_sent_is_sent_when_it_is_its_turn_or_is_known_not_to_have_been() {
    let mut config = BucketConfig::default();
    let server = TestServer::with(|parts| config = parts.bucket.clone()).await;
    server.place().write_object("key", b"bytes").await;
    (config.rate_limit, config.request_timeout) = (1, Duration::from_secs(1));
    let deleted = async |config: &BucketConfig| {
        let bucket = Bucket::open(config.clone()).await.unwrap();
        // All turns of the next seconds are taken.
        let heads = (0..8).map(|_| bucket.head("other"));
        let delete = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            bucket.delete(&["key".to_owned()]).await
        };
        tokio::join!(futures::future::join_all(heads), delete).1
    };
    let outcomes = deleted(&config).await;
    assert!(matches!(outcomes.as_slice(), [Deletion::Refused(why)] if why.contains("turn")), "{outcomes:?}");
    assert!(server.place().in_bucket("key").await);
    config.request_timeout = Duration::from_secs(30);
    assert_eq!(deleted(&config).await, [Deletion::Confirmed]);
    assert!(!server.place().in_bucket("key").await);
}
