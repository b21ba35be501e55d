//! What is stored as zstd, for readers who cannot undo it.

use reqwest::{Method, StatusCode};

use super::header;
use crate::support::closure::TestPath;
use crate::support::inspect::s3;
use crate::support::{TestServer, refusal};

#[tokio::test]
async fn what_cannot_be_decoded_here_is_said_before_anything_is_sent() {
    let server = TestServer::start().await;
    let log = "log/00bgd045z0d4icpbc2yyz4gx48ak44la-wide.drv".to_owned();
    // A frame whose window is 64 MiB, an empty block its only one; and what is no frame.
    let wide = [0x28, 0xb5, 0x2f, 0xfd, 0, (26 - 10) << 3, 1, 0, 0];
    for key in [log, TestPath::new("wide", &[]).listing_key()] {
        for stored in [&wide[..], b"no zstd at all"] {
            let put = s3().put_object().bucket(server.place().bucket()).key(&key).content_encoding("zstd");
            put.body(stored.to_vec().into()).send().await.unwrap();
            let (status, text) = refusal(server.get(&format!("/{key}")).await).await;
            assert_eq!(status, StatusCode::BAD_GATEWAY, "{key}: {text}");
            assert!(text.contains(&key) && text.contains("cannot be decoded here"), "{text}");
            let answer = server.read(Method::GET, &format!("/{key}"), &[("accept-encoding", "zstd")]).await;
            assert_eq!((answer.status(), answer.bytes().await.unwrap().as_ref()), (StatusCode::OK, stored));
            let head = server.read(Method::HEAD, &format!("/{key}"), &[]).await;
            assert_eq!(head.status(), StatusCode::OK, "{key}");
        }
    }
}

#[tokio::test]
async fn few_are_decoded_for_at_a_time_and_the_others_wait() {
    let server = TestServer::start().await;
    let key = TestPath::new("long", &[]).listing_key();
    let text = vec![b' '; 64 << 20];
    let put = s3().put_object().bucket(server.place().bucket()).key(&key).content_encoding("zstd");
    put.body(zstd::bulk::compress(&text, 3).unwrap().into()).send().await.unwrap();
    let path = format!("/{key}");
    let mut slow = Vec::new();
    for _ in 0..8 {
        // Not read: no more of it is sent than the sockets hold.
        slow.push(server.get(&path).await);
    }
    assert!(slow.iter().all(|answer| answer.status() == StatusCode::OK));
    let answer = server.get(&path).await;
    assert_eq!(header(answer.headers(), "retry-after"), "5");
    let (status, said) = refusal(answer).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{said}");
    assert!(said.contains("accept zstd"), "{said}");
    let as_stored = server.read(Method::GET, &path, &[("accept-encoding", "zstd")]).await;
    assert_eq!(as_stored.status(), StatusCode::OK);
    // One gives up, another reads to the end.
    drop(slow.pop());
    assert_eq!(server.get(&path).await.bytes().await.unwrap(), text);
    assert_eq!(slow.pop().unwrap().bytes().await.unwrap(), text);
    assert_eq!(server.get(&path).await.bytes().await.unwrap(), text);
}
