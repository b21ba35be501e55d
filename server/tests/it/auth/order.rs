//! Who may not make a call learns that, and nothing else: neither its query nor its body is looked at.

use std::time::{Duration, Instant};

use niks3_protocol::api::Permission;
use niks3_protocol::server_config::StaticToken;
use niks3_server::openapi;
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{ci_rules, in_cluster};
use crate::support::issuer::{account_claims, key, token};
use crate::support::{ADMIN, Place, TestServer, refusal};

const READER: &str = "test-token-of-the-reader-0123456789abcdef";

async fn with_reader(limit: usize) -> TestServer {
    let place = Place::create().await;
    let reader = StaticToken {
        name: "reader".to_owned(),
        token_file: place.write_file("reader-token", READER),
        permissions: vec![Permission::Read],
        pins: Vec::new(),
    };
    TestServer::at(place, |parts| {
        parts.auth.static_tokens = vec![reader];
        parts.settings.limits.body_bytes = limit;
    })
    .await
}

#[tokio::test]
async fn a_missing_permission_is_answered_before_a_bad_query_or_body() {
    let (server, _issuer) = in_cluster(ci_rules()).await;
    // A valid identity that no rule names.
    let nobody = token(key("rsa"), &account_claims("other", "builder"));
    let mut calls = 0;
    for (path, operations) in openapi::document()["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            if operation.get("security").is_none() || path == "/api/whoami" || path == "/{key}" {
                continue;
            }
            let method: Method = method.to_uppercase().parse().unwrap();
            let path = path.replace("{key}", "..%00").replace("{hash}", "x").replace("{id}", "x");
            let address = format!("{}?older-than=never&limit=many", path.replace("{name}", "a%20b"));
            let send = async |request: reqwest::RequestBuilder| {
                let request = request.header("content-encoding", "gzip").body("not JSON");
                request.send().await.unwrap()
            };
            let answer = send(server.request_as(&nobody, method.clone(), &address)).await;
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{method} {address}");
            let answer = send(server.anonymous(method.clone(), &address)).await;
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {address}");
            calls += 1;
        }
    }
    assert!(calls > 25, "{calls}");
}

#[tokio::test]
async fn a_body_is_not_asked_for_from_who_may_not_send_it() {
    let server = with_reader(1000).await;
    let head = async |token: &str, path: &str, length: usize, more: &str| {
        let mut socket = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: cache\r\nauthorization: Bearer {token}\r\n\
             content-length: {length}\r\n{more}\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(3), socket.read(&mut answer)).await;
        String::from_utf8_lossy(&answer[..read.map_or(0, Result::unwrap)]).into_owned()
    };
    let started = Instant::now();
    for more in ["", "expect: 100-continue\r\n"] {
        // Not one byte of these is sent.
        let refused = head(READER, "/api/pending_closures", 100 << 20, more).await;
        assert!(refused.starts_with("HTTP/1.1 403 "), "{more:?}: {refused}");
        let refused = head(READER, "/api/gc", 100 << 20, more).await;
        assert!(refused.starts_with("HTTP/1.1 403 "), "before its length is: {refused}");
        let refused = head(ADMIN, "/api/gc", 100 << 20, more).await;
        assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
        let refused = head(READER, "/api/pins/main", 100 << 20, more).await;
        assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let asked = head(ADMIN, "/api/pending_closures", 100 << 20, "expect: 100-continue\r\n").await;
    assert!(asked.starts_with("HTTP/1.1 100 "), "{asked}");
}

#[tokio::test]
async fn who_sends_a_long_body_all_the_same_gets_the_answer() {
    let server = with_reader(1 << 20).await;
    let body = vec![b' '; 100 << 20];
    let answer = server.request_as(READER, Method::POST, "/api/pending_closures").body(body);
    let (status, text) = refusal(answer.send().await.unwrap()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(text, "token:reader lacks the permission Push");
    // The connection is of use, or another is.
    let answer = server.request_as(READER, Method::GET, "/api/pins").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}
