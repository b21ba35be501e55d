//! A server that is told to stop finishes what is under way, whether somebody waits for it or not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::support::closure::{TestPath, begin_request};
use crate::support::relay::Relay;
use crate::support::{ADMIN, Place, TestServer, s3_address};

/// How long a commit takes at least: the narinfo is that late.
const LATE: u64 = 3000;

/// A server whose commits are slow, an upload that is ready for one, and the way to S3.
async fn with_upload() -> (TestServer, String, Relay) {
    let mut relay = Relay::to(&s3_address()).await;
    relay.delay_at(".narinfo", LATE);
    relay.up();
    let url = format!("http://{}", relay.address);
    let server = TestServer::at(Place::create().await, |parts| {
        parts.bucket.public_endpoint = parts.bucket.endpoint.replace(url);
    })
    .await;
    let path = TestPath::new("path", &[]);
    let begun = server.begin(ADMIN, &begin_request(&path, &[&path])).await;
    server.upload(ADMIN, &begun, &[&path]).await;
    (server, begun.id, relay)
}

async fn committed(place: &Place) -> i64 {
    place.rows::<(i64,)>("select count(*) from closures").await[0].0
}

#[tokio::test]
async fn a_commit_whose_client_hung_up_is_finished_before_the_server_ends() {
    let (server, id, _relay) = with_upload().await;
    let place = server.place().clone();
    let call = server.request(Method::POST, &format!("/api/pending_closures/{id}/complete"));
    assert!(call.timeout(Duration::from_millis(700)).send().await.unwrap_err().is_timeout());
    sleep(Duration::from_millis(300)).await;
    assert_eq!(committed(&place).await, 0, "it is under way");
    server.stop().await;
    assert_eq!(committed(&place).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_is_answered_and_nothing_new_begins() {
    let (server, id, _relay) = with_upload().await;
    let (place, http) = (server.place().clone(), server.http.clone());
    let (path, size) = (TestPath::new("large", &[]), 64 << 20);
    place.write_object(&path.nar_key(), &vec![7; size]).await;
    let url = Arc::new(server.url.clone());
    let mut nar = server.get(&format!("/{}", path.nar_key())).await;
    let mut read = nar.chunk().await.unwrap().unwrap().len();
    let complete = format!("{url}/api/pending_closures/{id}/complete");
    let completing = tokio::spawn(http.post(complete).bearer_auth(ADMIN).send());
    sleep(Duration::from_millis(500)).await;
    assert_eq!(committed(&place).await, 0, "it is under way");

    let started = Instant::now();
    let stopping = tokio::spawn(server.stop());
    sleep(Duration::from_millis(300)).await;
    let refused = TcpStream::connect(url.trim_start_matches("http://")).await;
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(!stopping.is_finished());
    while let Some(chunk) = nar.chunk().await.unwrap() {
        read += chunk.len();
    }
    assert_eq!(read, size);
    assert_eq!(completing.await.unwrap().unwrap().status(), StatusCode::NO_CONTENT);
    stopping.await.unwrap();
    assert_eq!(committed(&place).await, 1);
    assert!(started.elapsed() < Duration::from_secs(20), "it does not wait for who went away");
}
