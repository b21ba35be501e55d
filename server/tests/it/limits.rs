//! Every limit, over the wire: what is more than that gets the status that says so, and the server goes on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use niks3_protocol::api::{ErrorBody, Permission};
use niks3_protocol::duration::GoDuration;
use niks3_protocol::server_config::{LimitsSection, StaticToken};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions as _};

use crate::support::closure::{TestPath, begin_request, sign_request};
use crate::support::{ADMIN, Place, TestServer, refusal};

async fn limited(change: impl FnOnce(&mut LimitsSection)) -> TestServer {
    TestServer::with(|parts| change(&mut parts.settings.limits)).await
}

fn retry_after(headers: &HeaderMap) -> u64 {
    headers["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn bodies_have_limits_unless_told_otherwise() {
    let server = TestServer::start().await;
    let small = [
        "/api/multipart/complete",
        "/api/multipart/request-parts",
        "/api/multipart/list-parts",
        "/api/pins/x",
        "/api/closures/refresh",
    ];
    for path in small {
        let answer = server.request(Method::POST, path).body(vec![b' '; (1 << 20) + 1]).send().await.unwrap();
        let (status, text) = refusal(answer).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{path}: {text}");
    }
    let begin = server.request(Method::POST, "/api/pending_closures").body(vec![b' '; (128 << 20) + 1]);
    let (status, text) = refusal(begin.send().await.unwrap()).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(text.contains("128 MiB"), "{text}");
    let encoded = server.request(Method::POST, "/api/pending_closures").header("content-encoding", "gzip");
    let (status, _) = refusal(encoded.body("{}").send().await.unwrap()).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn bodies_are_as_long_as_they_may_be_and_no_longer() {
    let server = limited(|limits| (limits.closure_body_bytes, limits.body_bytes) = (2 << 20, 1000)).await;
    for (path, limit, sentence) in [
        ("/api/pending_closures", 2 << 20, "more than the 2 MiB"),
        ("/api/pending_closures/1/sign", 2 << 20, "more than the 2 MiB"),
        ("/api/pending_closures/1/complete", 1000, "more than the 1000 bytes"),
        ("/api/closures/refresh", 1000, "more than the 1000 bytes"),
        ("/api/multipart/request-parts", 1000, "more than the 1000 bytes"),
        ("/api/pins/main", 1000, "more than the 1000 bytes"),
        ("/api/gc", 1000, "more than the 1000 bytes"),
    ] {
        let send = async |length: usize| {
            let answer = server.request(Method::POST, path).body(" ".repeat(length)).send().await.unwrap();
            refusal(answer).await
        };
        let (status, text) = send(limit + 1).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{path}: {text}");
        assert!(text.contains(sentence), "{path}: {text}");
        assert_ne!(send(limit).await.0, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        // Without a length that says so, what is read ends it.
        let chunks =
            futures::stream::iter((0..=limit / 1000).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1001])));
        let body = reqwest::Body::wrap_stream(chunks);
        let answer = server.request(Method::POST, path).body(body).send().await.unwrap();
        if path.ends_with("complete") {
            // It has no body to read.
            continue;
        }
        assert_eq!(refusal(answer).await.0, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
    }
}

#[tokio::test]
async fn uploads_have_as_many_objects_and_signs_as_many_paths_as_they_may() {
    let server = limited(|limits| (limits.objects_per_upload, limits.paths_per_sign) = (3, 1)).await;
    let leaf = TestPath::new("leaf", &[]);
    let root = TestPath::new("root", &[&leaf]);
    let body = begin_request(&root, &[&root, &leaf]);
    let answer = server.request(Method::POST, "/api/pending_closures").json(&body).send().await.unwrap();
    let (status, text) = refusal(answer).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(text.contains("has 6 objects; this server takes 3 at a time"), "{text}");
    let begun = server.begin(ADMIN, &begin_request(&leaf, &[&leaf])).await;
    let call = format!("/api/pending_closures/{}/sign", begun.id);
    let both = sign_request(&[&leaf, &root]);
    let (status, text) = refusal(server.request(Method::POST, &call).json(&both).send().await.unwrap()).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(text.contains("has 2 narinfos; this server takes 1 at a time"), "{text}");
    server.push(&[&leaf]).await;
}

#[tokio::test]
async fn nars_are_as_large_as_they_may_be_and_what_is_there_already_stays() {
    let open = TestServer::start().await;
    let large = TestPath::with_nar("large", vec![7; 1001], &[]);
    open.push(&[&large]).await;
    let server = open.replica(|parts| parts.settings.limits.nar_bytes = 1000).await;
    let may = "and this cache takes NARs of 1000 at most, which whoever runs it may raise (--max-nar-size, of a \
               BinaryCache server.uploads.maxNarSize)";
    let fits = TestPath::with_nar("fits", vec![8; 1000], &[&large]);
    // In parts, where nothing is to be opened at S3; and two of them, beside one that fits.
    let huge = TestPath::with_nar("huge", vec![9; 20 << 20], &[]);
    let root = TestPath::with_nar("root", vec![9; 1001], &[&fits, &huge, &large]);
    let all = [&root, &fits, &huge, &large];
    let begin = async |body| server.request(Method::POST, "/api/pending_closures").json(body).send().await;
    let answer = begin(&begin_request(&root, &all)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let body: ErrorBody = answer.json().await.unwrap();
    let said = |size: usize| format!("has {size} bytes, {may}");
    let expected = [(root.nar_key(), said(1001)), (huge.nar_key(), said(20 << 20))];
    assert_eq!(body.objects, BTreeMap::from(expected), "those that are to be sent, and no others");
    let (first, path) =
        body.objects.keys().next().map(|key| (key, [&root, &huge].map(TestPath::key))).unwrap();
    let sentence =
        |path: &String| format!("{path}: the NAR {first} {}; so it is with 1 more", body.objects[first]);
    assert!(path.iter().map(sentence).any(|sentence| sentence == body.error), "{}", body.error);
    for rows in ["select count(*) from uploads", "select count(*) from multipart_uploads"] {
        assert_eq!(server.place().rows::<(i64,)>(rows).await, [(0,)], "{rows}");
    }
    server.push(&[&fits, &large]).await;

    // A client that says no size has a narinfo that does.
    let mut silent = begin_request(&root, &[&root, &huge, &fits, &large]);
    silent.objects.iter_mut().for_each(|object| object.nar_size = None);
    let begun = server.begin(ADMIN, &silent).await;
    let call = format!("/api/pending_closures/{}/sign", begun.id);
    let (status, text) =
        refusal(server.request(Method::POST, &call).json(&sign_request(&[&root])).send().await.unwrap())
            .await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{text}");
    assert_eq!(text, format!("{}: the NAR {} {}", root.store_path, root.nar_key(), said(1001)));
}

fn token(place: &Place, name: &str) -> (String, StaticToken) {
    let secret = format!("secret-of-{name}-0123456789abcdef0123456789");
    let token_file = place.write_file(name, &secret);
    let permissions = vec![Permission::Push];
    (secret, StaticToken { name: name.to_owned(), token_file, permissions, pins: Vec::new() })
}

#[tokio::test]
async fn as_many_uploads_are_under_way_as_may_be() {
    let place = Place::create().await;
    let (one, first) = token(&place, "one");
    let (two, second) = token(&place, "two");
    let server = TestServer::at(place, |parts| {
        parts.auth.static_tokens = vec![first, second];
        let limits = &mut parts.settings.limits;
        (limits.open_uploads, limits.open_uploads_per_identity) = (3, 2);
    })
    .await;
    let path = TestPath::new("path", &[]);
    let body = begin_request(&path, &[&path]);
    let begun = server.begin(&one, &body).await;
    server.begin(&one, &body).await;
    let refused = async |token: &str, sentence: &str| {
        let answer = server.request_as(token, Method::POST, "/api/pending_closures").json(&body);
        let answer = answer.send().await.unwrap();
        assert!(retry_after(answer.headers()) > 0);
        let (status, text) = refusal(answer).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{text}");
        assert!(text.contains(sentence), "{text}");
    };
    refused(&one, "token:one has 2 uploads under way").await;
    // What one identity has is not for another to feel, until there are too many in all.
    server.begin(&two, &body).await;
    refused(&two, "3 uploads are under way").await;
    server.upload(&one, &begun, &[&path]).await;
    assert_eq!(server.complete(&one, &begun.id).await.status(), StatusCode::NO_CONTENT);
    server.begin(&one, &body).await;
    refused(&two, "3 uploads are under way").await;
    // What can no longer be sent does not count.
    server.place().sql("update uploads set addresses_until = now()").await;
    server.begin(&two, &body).await;
}

#[tokio::test]
async fn an_identity_that_calls_too_often_waits_and_no_other_does() {
    let place = Place::create().await;
    let (eager, first) = token(&place, "eager");
    let server = TestServer::at(place, |parts| {
        parts.auth.static_tokens = vec![first];
        let limits = &mut parts.settings.limits;
        (limits.calls_per_second, limits.calls_burst) = (1, 5);
    })
    .await;
    let call = async |token: &str| server.request_as(token, Method::GET, "/api/whoami").send().await.unwrap();
    let mut refused = None;
    for _ in 0..20 {
        let answer = call(&eager).await;
        if answer.status() != StatusCode::OK {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.unwrap();
    let after = retry_after(refused.headers());
    assert!((1..=2).contains(&after), "{after}");
    let (status, text) = refusal(refused).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(text.contains("token:eager calls too often"), "{text}");
    assert_eq!(call(ADMIN).await.status(), StatusCode::OK);
    // Objects are no calls: Nix asks for thousands of narinfos at once.
    for _ in 0..20 {
        let read = server.request_as(&eager, Method::GET, "/nix-cache-info").send().await.unwrap();
        assert_eq!(read.status(), StatusCode::OK);
    }
    tokio::time::sleep(Duration::from_secs(after)).await;
    assert_eq!(call(&eager).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_ended() {
    let server = limited(|limits| limits.call_timeout = GoDuration::seconds(1)).await;
    let mut holder = server.place().database().connect().await.unwrap();
    let lock = "begin; lock table pins in access exclusive mode";
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut holder).await.unwrap();
    let started = Instant::now();
    let answer = server.request(Method::GET, "/api/pins").send().await.unwrap();
    assert!(retry_after(answer.headers()) > 0);
    let (status, text) = refusal(answer).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("took longer than 1s"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(10));
    drop(holder);
    for _ in 0..100 {
        if server.request(Method::GET, "/api/pins").send().await.unwrap().status() == StatusCode::OK {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it should work again");
}

#[tokio::test]
async fn every_answer_has_an_id_the_callers_where_it_is_one() {
    let server = TestServer::start().await;
    for (given, kept) in [
        ("proxy-1:a.b_c", true),
        (&*"x".repeat(64), true),
        (&*"x".repeat(65), false),
        ("", false),
        ("a b", false),
        ("a\"b", false),
        ("ä", false),
    ] {
        for path in ["/api/pins", "/health", "/nothing"] {
            let request = server.request(Method::GET, path).header("x-request-id", given.as_bytes());
            let answer = request.send().await.unwrap();
            let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
            assert_eq!(id == given, kept, "{given:?} {id:?}");
            assert!(kept || (id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit())), "{id:?}");
        }
    }
    let answer = server.request(Method::GET, "/api/closures/x").header("x-request-id", "mine");
    let body: serde_json::Value = answer.send().await.unwrap().json().await.unwrap();
    assert_eq!(body["request_id"], json!("mine"));
}
