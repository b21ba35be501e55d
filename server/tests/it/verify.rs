//! `uploads.verify`: what the server looks at before it signs and commits.

use niks3_protocol::server_config::VerifyUploads;
use reqwest::{Method, Response, StatusCode};
use serde_json::json;

use crate::fsck_spares::long;
use crate::support::closure::{TestPath, begin_request, sign_request};
use crate::support::relay::{Relay, Spoiling};
use crate::support::{ADMIN, TestServer, refusal, s3_address};

async fn verifying(how: VerifyUploads) -> TestServer {
    TestServer::with(|parts| parts.settings.verify = how).await
}

async fn sign(server: &TestServer, id: &str, path: &TestPath) -> Response {
    let call = format!("/api/pending_closures/{id}/sign");
    server.request(Method::POST, &call).json(&sign_request(&[path])).send().await.unwrap()
}

#[tokio::test]
async fn with_hash_no_narinfo_is_signed_whose_nar_is_another() {
    let server = verifying(VerifyUploads::Hash).await;
    let path = TestPath::new("path", &[]);
    let begun = server.begin(ADMIN, &begin_request(&path, &[&path])).await;
    let (status, text) = refusal(sign(&server, &begun.id, &path).await).await;
    assert_eq!(status, StatusCode::CONFLICT, "{text}");
    assert!(text.contains("1 of the upload's objects are not in the bucket"), "{text}");

    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let mut flipped = path.nar.clone();
    flipped[3] ^= 1;
    let whole = zstd(&path.nar);
    for (stored, sentence) in [
        (zstd(&flipped), "holds 15 bytes with the hash"),
        (zstd(&path.nar[1..]), "holds 14 bytes with the hash"),
        (zstd(&vec![0; 64 << 20]), "holds more than the 15 bytes"),
        (b"not zstd at all".to_vec(), "cannot be read as zstd"),
        (whole[..whole.len() - 4].to_vec(), "cannot be read as zstd"),
        (Vec::new(), "the NAR"),
    ] {
        server.place().write_object(&path.nar_key(), &stored).await;
        let (status, text) = refusal(sign(&server, &begun.id, &path).await).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{sentence}: {text}");
        assert!(text.contains(sentence) && text.contains(&path.nar_key()), "{text}");
    }
    let rows = server.place().rows::<(i64,)>("select count(*) from signed_narinfos").await;
    assert_eq!(rows, [(0,)], "nothing was signed");

    server.upload(ADMIN, &begun, &[&path]).await;
    // What was read is what is committed: the address of the NAR still works.
    server.place().write_object(&path.nar_key(), &zstd(&flipped)).await;
    let (status, text) = refusal(server.complete(ADMIN, &begun.id).await).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(text.contains("is not what it was said to be"), "{text}");
    server.upload(ADMIN, &begun, &[&path]).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
}

/// That says nothing of the NAR: the client is to ask again, and not to send it anew.
#[tokio::test]
async fn a_nar_whose_bytes_stop_coming_is_read_again_and_then_s3_is_away() {
    let mut relay = Relay::to(&s3_address()).await;
    relay.up();
    let s3 = format!("http://{}", relay.address);
    let server = TestServer::with(|parts| {
        parts.settings.verify = VerifyUploads::Hash;
        parts.bucket.public_endpoint = parts.bucket.endpoint.replace(s3);
    })
    .await;
    let path = long("path");
    let begun = server.begin(ADMIN, &begin_request(&path, &[&path])).await;
    for (key, bytes) in path.stored() {
        server.put_pending(&begun, &key, bytes).await;
    }
    for (times, expected) in [(1000, StatusCode::SERVICE_UNAVAILABLE), (1, StatusCode::OK)] {
        relay.down().await;
        relay.spoil_nar(&server, &path, Spoiling::Cut, times);
        relay.up();
        let answer = sign(&server, &begun.id, &path).await;
        assert_eq!(answer.status(), expected, "{}", answer.text().await.unwrap());
        assert!(relay.unspoiled() < times);
    }
}

#[tokio::test]
async fn by_default_what_is_there_has_to_be_as_long_as_it_must_be() {
    let server = verifying(VerifyUploads::Head).await;
    let path = TestPath::new("path", &[]);
    let begun = server.begin(ADMIN, &begin_request(&path, &[&path])).await;
    server.upload(ADMIN, &begun, &[&path]).await;
    server.place().write_object(&path.nar_key(), b"").await;
    let (status, text) = refusal(server.complete(ADMIN, &begun.id).await).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(text.contains(&path.nar_key()), "{text}");

    // A NAR that is not compressed has the length that was said.
    let plain = path.nar_key().replace(".zst", "");
    let mut body = serde_json::to_value(begin_request(&path, &[&path])).unwrap();
    body["objects"][0]["refs"] = json!([plain, path.listing_key()]);
    body["objects"][1]["key"] = json!(plain);
    let begun = server.request(Method::POST, "/api/pending_closures").json(&body).send().await.unwrap();
    let begun: serde_json::Value = begun.json().await.unwrap();
    let mut said = serde_json::to_value(sign_request(&[&path])).unwrap();
    said["narinfos"][path.key()]["url"] = json!(plain);
    said["narinfos"][path.key()]["compression"] = json!("none");
    let id = begun["id"].as_str().unwrap();
    let call = format!("/api/pending_closures/{id}/sign");
    let answer = server.request(Method::POST, &call).json(&said).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    server.place().write_object(&plain, &path.nar[1..]).await;
    assert_eq!(refusal(server.complete(ADMIN, id).await).await.0, StatusCode::CONFLICT);
    server.place().write_object(&plain, &path.nar).await;
    assert_eq!(server.complete(ADMIN, id).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn with_none_clients_are_believed() {
    let server = verifying(VerifyUploads::None).await;
    let path = TestPath::new("path", &[]);
    let begun = server.begin(ADMIN, &begin_request(&path, &[&path])).await;
    assert_eq!(sign(&server, &begun.id, &path).await.status(), StatusCode::OK);
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
}

/// How often S3 was asked, by what `niks3_s3_calls_total` says of an operation.
async fn calls(server: &TestServer, operation: &str) -> u64 {
    let told = server.get("/metrics").await.text().await.unwrap();
    let line = format!("niks3_s3_calls_total{{operation=\"{operation}\"");
    let counts = told.lines().filter(|told| told.starts_with(&line));
    counts.map(|told| told.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_large_commit_looks_by_listing_and_asks_for_what_that_does_not_show() {
    let server = verifying(VerifyUploads::Head).await;
    let paths: Vec<TestPath> = (0..600).map(|number| TestPath::new(&format!("path-{number}"), &[])).collect();
    let paths: Vec<&TestPath> = paths.iter().collect();
    // What lies there from before the upload is not what a listing is believed about.
    for path in &paths[..20] {
        server.place().write_object(&path.nar_key(), b"from before").await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let begun = server.begin(ADMIN, &begin_request(paths[0], &paths)).await;
    server.upload(ADMIN, &begun, &paths[20..]).await;
    for path in &paths[..20] {
        assert_eq!(sign(&server, &begun.id, path).await.status(), StatusCode::OK);
    }
    let before = (calls(&server, "head").await, calls(&server, "list").await);
    let (status, text) = refusal(server.complete(ADMIN, &begun.id).await).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(text.contains("20 of the upload's objects are not in the bucket"), "{text}");
    let asked = calls(&server, "head").await - before.0;
    assert_eq!(asked, 40, "the NARs from before, and the listings that were not sent");
    assert!((2..=8).contains(&(calls(&server, "list").await - before.1)));

    server.upload(ADMIN, &begun, &paths[..20]).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(calls(&server, "head").await - before.0, asked, "a listing shows all of it now");
}

/// Some servers read a whole folder for each page, so where most of it would be others' each key is asked for.
#[tokio::test]
async fn a_commit_of_a_large_cache_asks_for_each_object() {
    let server = verifying(VerifyUploads::Head).await;
    let paths: Vec<TestPath> = (0..240).map(|number| TestPath::new(&format!("path-{number}"), &[])).collect();
    let paths: Vec<&TestPath> = paths.iter().collect();
    for (rows, asked, of) in [(0, 0, &paths[..120]), (1_000_000, 240, &paths[120..])] {
        let says = format!(
            "alter table objects set (autovacuum_enabled = false);
             update pg_class set reltuples = {rows} where oid = 'objects'::regclass"
        );
        server.place().sql(&says).await;
        let begun = server.begin(ADMIN, &begin_request(of[0], of)).await;
        server.upload(ADMIN, &begun, of).await;
        let before = (calls(&server, "head").await, calls(&server, "list").await);
        assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
        assert_eq!(calls(&server, "head").await - before.0, asked, "{rows} rows");
        assert_eq!(calls(&server, "list").await == before.1, asked > 0, "{rows} rows");
    }
}
