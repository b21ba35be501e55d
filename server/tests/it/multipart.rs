//! Large NARs in parts.

use niks3_protocol::api::Permission;
use niks3_protocol::api::gc::GcState;
use niks3_protocol::api::multipart::{ListPartsResponse, RequestPartsResponse};
use niks3_protocol::api::pending_closures::{BeginRequest, BeginResponse, MultipartInfo};
use niks3_protocol::server_config::StaticToken;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::closure::{TestPath, begin_request};
use crate::support::relay::Relay;
use crate::support::{ADMIN, Place, TestServer, refusal, s3_address};

const PART: usize = 10 << 20;
const COMPLETE: &str = "/api/multipart/complete";
const REQUEST: &str = "/api/multipart/request-parts";
const LIST: &str = "/api/multipart/list-parts";

fn large(name: &str) -> (TestPath, BeginRequest) {
    let path = TestPath::new(name, &[]);
    let mut body = begin_request(&path, &[&path]);
    body.objects[1].nar_size = Some(PART as u64 + 1);
    (path, body)
}

fn info<'a>(begun: &'a BeginResponse, path: &TestPath) -> &'a MultipartInfo {
    let pending = &begun.pending_objects[&path.nar_key()];
    assert!(pending.presigned_url.is_none());
    pending.multipart_info.as_ref().unwrap()
}

async fn put(server: &TestServer, url: &str, bytes: Vec<u8>) -> String {
    let answer = server.http.put(url).body(bytes).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.headers()["etag"].to_str().unwrap().to_owned()
}

async fn post(server: &TestServer, path: &str, body: &Value) -> reqwest::Response {
    server.request(Method::POST, path).json(body).send().await.unwrap()
}

#[tokio::test]
async fn parts_in_any_order_become_the_object() {
    let server = TestServer::start().await;
    let (path, body) = large("large");
    let begun = server.begin(ADMIN, &body).await;
    let multipart = info(&begun, &path);
    assert_eq!(multipart.part_urls.len(), 2);
    let (first, second) = (vec![1; PART], vec![2; 1000]);
    let second_tag = put(&server, &multipart.part_urls[1], second.clone()).await;
    // The address of a part can be asked for again, and of later ones too.
    let more = json!({"object_key": path.nar_key(), "upload_id": multipart.upload_id,
                      "start_part_number": 1, "num_parts": 1});
    let more: RequestPartsResponse = post(&server, REQUEST, &more).await.json().await.unwrap();
    assert_eq!((more.start_part_number, more.part_urls.len()), (1, 1));
    let first_tag = put(&server, &more.part_urls[0], first.clone()).await;
    let parts = json!([{"part_number": 2, "etag": second_tag}, {"part_number": 1, "etag": first_tag}]);
    let body = json!({"object_key": path.nar_key(), "upload_id": multipart.upload_id, "parts": parts});
    let answer = post(&server, COMPLETE, &body).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let stored = server.place().stored_bytes(&path.nar_key()).await;
    assert!(stored.len() == PART + 1000 && stored[PART - 1..=PART] == [1, 2]);
    // Once more: the answer may have been lost.
    let (status, _) = refusal(post(&server, COMPLETE, &body).await).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_parts_of_an_interrupted_upload_are_listed() {
    let server = TestServer::start().await;
    let (path, body) = large("interrupted");
    let begun = server.begin(ADMIN, &body).await;
    let multipart = info(&begun, &path);
    let list = |key: &str, id: &str| json!({"object_key": key, "upload_id": id});
    let known = list(&path.nar_key(), &multipart.upload_id);
    let listed: ListPartsResponse = post(&server, LIST, &known).await.json().await.unwrap();
    assert_eq!(listed.parts, []);
    let tag = put(&server, &multipart.part_urls[1], vec![2; 1000]).await;
    let listed: ListPartsResponse = post(&server, LIST, &known).await.json().await.unwrap();
    assert_eq!(listed.parts.iter().map(|part| part.part_number).collect::<Vec<_>>(), [2]);
    assert_eq!(listed.parts[0].etag.trim_matches('"'), tag.trim_matches('"'));

    let other = TestPath::new("other", &[]).nar_key();
    for unknown in [list(&path.nar_key(), "unknown"), list(&other, &multipart.upload_id)] {
        let (status, _) = refusal(post(&server, LIST, &unknown).await).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{unknown}");
    }
    let complete = json!({"object_key": path.nar_key(), "upload_id": multipart.upload_id,
                          "parts": [{"part_number": 2, "etag": tag}]});
    assert_eq!(post(&server, COMPLETE, &complete).await.status(), StatusCode::NO_CONTENT);
    let (status, _) = refusal(post(&server, LIST, &known).await).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn parts_that_are_not_right_are_refused() {
    let server = TestServer::start().await;
    let (path, body) = large("large");
    let begun = server.begin(ADMIN, &body).await;
    let multipart = info(&begun, &path);
    let (key, id) = (path.nar_key(), multipart.upload_id.clone());
    let tag = put(&server, &multipart.part_urls[0], vec![1; PART]).await;
    let other = TestPath::new("other", &[]).nar_key();
    for (object_key, upload_id, parts, expected) in [
        (&key, id.as_str(), json!([]), 400),
        (&key, &id, json!([{"part_number": 0, "etag": tag}]), 400),
        (&key, &id, json!([{"part_number": 10_001, "etag": tag}]), 400),
        (&key, &id, json!([{"part_number": -1, "etag": tag}]), 400),
        (&key, &id, json!([{"part_number": 1, "etag": "\"00000000000000000000000000000000\""}]), 400),
        (&key, &id, json!([{"part_number": 1, "etag": tag}, {"part_number": 2, "etag": tag}]), 400),
        (&key, &id, json!([{"part_number": 1, "etag": tag}, {"part_number": 1, "etag": tag}]), 400),
        (&other, &id, json!([{"part_number": 1, "etag": tag}]), 404),
        (&key, "unknown", json!([{"part_number": 1, "etag": tag}]), 404),
        (&key, "a\u{0}b", json!([{"part_number": 1, "etag": tag}]), 400),
    ] {
        let body = json!({"object_key": object_key, "upload_id": upload_id, "parts": parts});
        let (status, text) = refusal(post(&server, COMPLETE, &body).await).await;
        assert_eq!(status.as_u16(), expected, "{body}: {text}");
    }
    for (object_key, start, count, expected) in [
        (&key, 1, 0, 400),
        (&key, 1, 1001, 400),
        (&key, 0, 1, 400),
        (&key, 10_000, 2, 400),
        (&key, u32::MAX, 1000, 400),
        (&other, 1, 1, 404),
        (&key, 10_000, 1, 200),
        (&key, 9_001, 1000, 200),
    ] {
        let body = json!({"object_key": object_key, "upload_id": id, "start_part_number": start,
                          "num_parts": count});
        let answer = post(&server, REQUEST, &body).await;
        assert_eq!(answer.status().as_u16(), expected, "{body}: {}", answer.text().await.unwrap());
    }
    // None of that ended the upload.
    let body = json!({"object_key": key, "upload_id": id, "parts": [{"part_number": 1, "etag": tag}]});
    assert_eq!(post(&server, COMPLETE, &body).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn what_is_left_open_is_ended_with_its_upload() {
    let server = TestServer::start().await;
    let (path, body) = large("abandoned");
    let begun = server.begin(ADMIN, &body).await;
    put(&server, &info(&begun, &path).part_urls[0], vec![1; PART]).await;
    let (done, body) = large("completed");
    let done_begun = server.begin(ADMIN, &body).await;
    assert_eq!(server.place().open_multiparts().await, 2);
    // This one is sent in one piece past its multipart upload: completing it leaves that behind.
    server.place().write_object(&done.nar_key(), b"all of it").await;
    server.upload_rest(&done_begun, &done, PART as u64 + 1).await;
    assert_eq!(server.complete(ADMIN, &done_begun.id).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(server.place().open_multiparts().await, 1);

    let past = "update uploads set started_at = started_at - interval '1 day',
                addresses_until = addresses_until - interval '1 day'";
    server.place().sql(past).await;
    let expire = server.request(Method::DELETE, "/api/pending_closures?older-than=1h");
    assert_eq!(expire.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(server.place().open_multiparts().await, 0);
    let body = json!({"object_key": path.nar_key(), "upload_id": info(&begun, &path).upload_id,
                      "start_part_number": 1, "num_parts": 1});
    let (status, _) = refusal(post(&server, REQUEST, &body).await).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    for query in ["", "?older-than=soon", "?older-than=-1h"] {
        let expire = server.request(Method::DELETE, &format!("/api/pending_closures{query}"));
        assert_eq!(refusal(expire.send().await.unwrap()).await.0, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn addresses_never_outlive_their_upload() {
    let server = TestServer::start().await;
    let path = TestPath::new("path", &[]);
    // A key that a collection is deleting makes the begin wait.
    let insert = format!("insert into objects (key, deleting_since) values ('{}', now())", path.key());
    server.place().sql(&insert).await;
    let (request, paths) = (begin_request(&path, &[&path]), [&path]);
    let begin = server.begin(ADMIN, &request);
    let end = async {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        server.place().sql("delete from objects where deleting_since is not null").await;
    };
    let (begun, ()) = tokio::join!(begin, end);
    let url = begun.pending_objects[&paths[0].key()].presigned_url.clone().unwrap();
    let date = url.split("X-Amz-Date=").nth(1).unwrap().split('&').next().unwrap();
    let late = "select addresses_until >= to_timestamp($$DATE$$, 'YYYYMMDD\"T\"HH24MISS\"Z\"')::timestamp
                at time zone 'UTC' + interval '5 hours' from uploads";
    let rows = server.place().rows::<(bool,)>(&late.replace("DATE", date)).await;
    assert_eq!(rows, [(true,)]);
}

#[tokio::test]
async fn parts_are_the_affair_of_whoever_began_the_upload() {
    const OTHER: &str = "test-token-of-another-0123456789abcdefgh";
    let place = Place::create().await;
    let other = StaticToken {
        name: "other".to_owned(),
        token_file: place.write_file("other", OTHER),
        permissions: vec![Permission::Push],
        pins: Vec::new(),
    };
    let server = TestServer::at(place, |parts| parts.auth.static_tokens = vec![other]).await;
    let (path, body) = large("large");
    // One of its own makes it no better.
    server.begin(OTHER, &large("its-own").1).await;
    let begun = server.begin(ADMIN, &body).await;
    let MultipartInfo { upload_id, part_urls, .. } = info(&begun, &path);
    let tag = put(&server, &part_urls[0], vec![1; PART]).await;
    let key = path.nar_key();
    let calls = [
        (
            REQUEST,
            json!({"object_key": key, "upload_id": upload_id, "start_part_number": 1, "num_parts": 1}),
            200,
        ),
        (LIST, json!({"object_key": key, "upload_id": upload_id}), 200),
        (
            COMPLETE,
            json!({"object_key": key, "upload_id": upload_id, "parts": [{"part_number": 1, "etag": tag}]}),
            204,
        ),
    ];
    for (call, body, _) in &calls {
        let answer = server.request_as(OTHER, Method::POST, call).json(body).send().await.unwrap();
        let (status, text) = refusal(answer).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{call}: {text}");
        assert!(!text.contains("X-Amz"), "{call}: {text}");
    }
    assert!(!server.place().in_bucket(&key).await);
    for (call, body, status) in &calls {
        assert_eq!(post(&server, call, body).await.status().as_u16(), *status, "{call}");
    }
}

/// S3 opens one and not the other: the begin fails, and what was opened is ended with the next expiry.
#[tokio::test]
async fn a_begin_that_fails_leaves_nothing_open() {
    let ((one, mut body), (other, more)) = (large("one"), large("other"));
    body.objects.extend(more.objects);
    let mut relay = Relay::to(&s3_address()).await;
    relay.cut_at(&format!("{}?uploads", other.nar_key()));
    relay.up();
    let s3 = format!("http://{}", relay.address);
    let server = TestServer::with(|parts| drop(parts.bucket.endpoint.replace(s3))).await;
    let answer = server.request(Method::POST, "/api/pending_closures").json(&body).send().await.unwrap();
    assert_eq!(refusal(answer).await.0, StatusCode::SERVICE_UNAVAILABLE);
    let rows = server.place().rows::<(String,)>("select object_key from multipart_uploads").await;
    assert_eq!(rows, [(one.nar_key(),)]);
    assert_eq!(server.place().rows::<(i64,)>("select count(*) from uploads").await, [(0,)]);
    let expire = server.request(Method::DELETE, "/api/pending_closures?older-than=1h");
    assert_eq!(expire.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(server.place().open_multiparts().await, 0);
}

/// S3 does not end one of two: the other is ended and forgotten, and collections go on.
#[tokio::test]
async fn what_s3_does_not_end_stops_no_collection() {
    let ((one, first), (other, second)) = (large("one"), large("other"));
    let (place, mut relay) = (Place::create().await, Relay::to(&s3_address()).await);
    relay.cut_at(&format!("DELETE /{}/{}?", place.bucket(), one.nar_key()));
    relay.up();
    let s3 = format!("http://{}", relay.address);
    let server = TestServer::at(place, |parts| drop(parts.bucket.endpoint.replace(s3))).await;
    let garbage = TestPath::new("garbage", &[]);
    server.push(&[&garbage]).await;
    for body in [&first, &second] {
        server.begin(ADMIN, body).await;
    }
    let past = "update uploads set started_at = started_at - interval '1 day',
                addresses_until = addresses_until - interval '1 day';
                update closures set updated_at = now() - interval '2 days'";
    server.place().sql(past).await;
    let run = server.collect("older-than=1h&force=true").await;
    assert_eq!((run.state, run.stats.failed_uploads_deleted), (GcState::Succeeded, 2), "{run:?}");
    assert!(!server.has(&garbage).await && !server.place().in_bucket(&other.nar_key()).await);
    let rows = server.place().rows::<(String,)>("select object_key from multipart_uploads").await;
    assert_eq!(rows, [(one.nar_key(),)]);
    assert_eq!(server.place().open_multiparts().await, 1);

    let replica = server.replica(|_| {}).await;
    assert_eq!(replica.collect("older-than=1h&force=true").await.state, GcState::Succeeded);
    assert_eq!(server.place().open_multiparts().await, 0);
}
