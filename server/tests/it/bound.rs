//! Addresses bound to what is to be stored under them: S3 itself refuses anything else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use niks3_protocol::api::Permission;
use niks3_protocol::api::pending_closures::{AddressesResponse, BeginResponse};
use niks3_protocol::server_config::StaticToken;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::closure::{TestPath, begin_request};
use crate::support::{ADMIN, Place, TestServer, refusal};

const OTHER: &str = "test-token-of-another-0123456789abcdef0123";

pub(crate) fn digest(bytes: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(bytes))
}

fn said_of(bytes: &[u8]) -> Value {
    json!({"length": bytes.len(), "sha256": digest(bytes)})
}

async fn with_another() -> TestServer {
    let place = Place::create().await;
    let other = StaticToken {
        name: "other".to_owned(),
        token_file: place.write_file("other-token", OTHER),
        permissions: vec![Permission::Push],
        pins: Vec::new(),
    };
    TestServer::at(place, |parts| {
        parts.auth.static_tokens = vec![other];
        parts.settings.bound = true;
    })
    .await
}

impl TestServer {
    async fn begin_bound(&self, path: &TestPath) -> BeginResponse {
        let mut request = begin_request(path, &[path]);
        (request.bound_addresses, request.server_narinfos) = (true, true);
        self.begin(ADMIN, &request).await
    }

    async fn ask_addresses(&self, token: &str, id: &str, objects: Value) -> Response {
        let call = format!("/api/pending_closures/{id}/addresses");
        self.request_as(token, Method::POST, &call).json(&json!({"objects": objects})).send().await.unwrap()
    }

    async fn send_bytes(
        &self,
        address: &str,
        bytes: &[u8],
        checksum: Option<&str>,
        encoding: bool,
    ) -> StatusCode {
        let mut request = self.http.put(address).body(bytes.to_vec());
        if let Some(checksum) = checksum {
            request = request.header("x-amz-checksum-sha256", checksum);
        }
        if encoding {
            request = request.header("content-encoding", "zstd");
        }
        request.send().await.unwrap().status()
    }
}

#[tokio::test]
async fn s3_takes_the_bytes_an_address_is_bound_to_and_no_others() {
    let server = with_another().await;
    let path = TestPath::new("path", &[]);
    let begun = server.begin_bound(&path).await;
    assert_eq!(begun.pending_objects.len(), 3);
    assert!(begun.pending_objects.values().all(|object| object.presigned_url.is_none()), "{begun:?}");
    let stored = path.stored();
    let objects: Value = stored.iter().map(|(key, bytes)| (key.clone(), said_of(bytes))).collect();
    let answer = server.ask_addresses(ADMIN, &begun.id, objects).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: AddressesResponse = answer.json().await.unwrap();
    assert_eq!(answer.addresses.len(), stored.len(), "one call for all");
    for (key, bytes) in &stored {
        let (address, checksum) = (&answer.addresses[key], digest(bytes));
        let mut other = bytes.clone();
        other[0] ^= 1;
        let longer = [bytes.as_slice(), b"x"].concat();
        let encoding = *key == path.listing_key();
        for (bytes, checksum, what) in [
            (&other, Some(&*checksum), "other bytes"),
            (&other, Some(&*digest(&other)), "other bytes, and their checksum"),
            (&longer, Some(&*checksum), "more bytes"),
            (&longer, Some(&*digest(&longer)), "more bytes, and their checksum"),
            (bytes, None, "no checksum"),
        ] {
            let status = server.send_bytes(address, bytes, checksum, encoding).await;
            assert!(status.is_client_error(), "{key}: {what}: {status}");
        }
        let there = server.place().list_bucket().await;
        assert!(!there.contains(key), "{key}: {there:?}");
        assert_eq!(
            server.send_bytes(address, bytes, Some(&*checksum), encoding).await,
            StatusCode::OK,
            "{key}"
        );
    }
    server.sign(ADMIN, &begun.id, &[&path]).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(server.get(&format!("/{}", path.key())).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn addresses_are_given_for_what_the_own_upload_lacks_alone() {
    let server = with_another().await;
    let (there, path) = (TestPath::new("there", &[]), TestPath::new("path", &[]));
    server.push(&[&there]).await;
    let begun = server.begin_bound(&path).await;
    let good = said_of(b"bytes");
    let of = |key: &str, said: &Value| json!({key: said});
    let many: Value = (0..1001).map(|number| (format!("log/{number}.drv"), good.clone())).collect();
    for (token, id, objects, status, sentence) in [
        (OTHER, &*begun.id, of(&path.nar_key(), &good), 403, "was begun by another identity"),
        (ADMIN, "999999", of(&path.nar_key(), &good), 404, "upload 999999 is not there"),
        (ADMIN, "x", of(&path.nar_key(), &good), 404, "is not the id of an upload"),
        (ADMIN, &begun.id, of(&there.nar_key(), &good), 403, "is not among what upload"),
        (ADMIN, &begun.id, of(&path.key(), &good), 400, "narinfos are written by the server"),
        (ADMIN, &begun.id, of("../secret", &good), 400, "is not a key of a binary cache"),
        (ADMIN, &begun.id, of("staging/1/x.narinfo", &good), 400, "is not a key of a binary cache"),
        (
            ADMIN,
            &begun.id,
            of(&path.nar_key(), &json!({"length": 0, "sha256": digest(b"")})),
            400,
            "1 byte to 5 GiB",
        ),
        (
            ADMIN,
            &begun.id,
            of(&path.nar_key(), &json!({"length": 6_u64 << 30, "sha256": digest(b"")})),
            400,
            "5 GiB",
        ),
        (
            ADMIN,
            &begun.id,
            of(&path.nar_key(), &json!({"length": 5, "sha256": "x\ny"})),
            400,
            "not 32 bytes in base-64",
        ),
        (ADMIN, &begun.id, of(&path.nar_key(), &json!({"length": -5, "sha256": "x"})), 400, "objects"),
        (ADMIN, &begun.id, many, 413, "has 1001 objects; this server takes 1000"),
    ] {
        let (got, text) = refusal(server.ask_addresses(token, id, objects).await).await;
        assert_eq!(got.as_u16(), status, "{sentence}: {text}");
        assert!(text.contains(sentence), "{text}");
    }
}

#[tokio::test]
async fn clients_are_told_where_they_are_to_use_them() {
    for (bound, told) in [(true, true), (false, false)] {
        let server = TestServer::with(|parts| parts.settings.bound = bound).await;
        let config: Value = server.get("/api/cache-config").await.json().await.unwrap();
        assert_eq!(config["extensions"].as_array().unwrap().contains(&json!("bound-addresses")), told);
    }
}
