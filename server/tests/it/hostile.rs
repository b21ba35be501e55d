//! Requests meant to harm: keys that lead elsewhere, in every place that takes one, and bodies that grow.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::closure::{TestPath, begin_request, sign_request};
use crate::support::{ADMIN, TestServer, refusal};

const KEYS: [&str; 9] = [
    "../secret.narinfo",
    "nar/../../secret",
    "/etc/passwd",
    "nar//x.nar.zst",
    "log/../x.drv",
    "realisations/..!out.doi",
    "build-trace-v2/../out.doi",
    "x\u{1}.narinfo",
    ".niks3-cache",
];

#[tokio::test]
async fn no_place_that_takes_a_key_leads_elsewhere() {
    let server = TestServer::start().await;
    let leaf = TestPath::new("leaf", &[]);
    let path = TestPath::new("path", &[&leaf]);
    let begun = server.begin(ADMIN, &begin_request(&path, &[&path, &leaf])).await;
    let [sign, addresses] =
        ["sign", "addresses"].map(|call| format!("/api/pending_closures/{}/{call}", begun.id));
    let before = server.place().list_bucket().await;
    let parts = json!([{"part_number": 1, "etag": "x"}]);
    for key in KEYS {
        let changed = |mut body: Value, pointer: &str| {
            *body.pointer_mut(pointer).unwrap() = json!(key);
            body
        };
        let begin = serde_json::to_value(begin_request(&path, &[&path, &leaf])).unwrap();
        let mut several = begin.clone();
        several["closures"] = json!([path.key()]);
        let signing = serde_json::to_value(sign_request(&[&path])).unwrap();
        let narinfo = signing["narinfos"][path.key()].clone();
        let of_path = |field: &str| changed(signing.clone(), &format!("/narinfos/{}/{field}", path.key()));
        let calls = [
            ("/api/pending_closures", changed(begin.clone(), "/closure")),
            ("/api/pending_closures", changed(several.clone(), "/closures/0")),
            ("/api/pending_closures", changed(begin.clone(), "/objects/0/key")),
            ("/api/pending_closures", changed(begin.clone(), "/objects/0/refs/0")),
            ("/api/closures/refresh", json!({"closures": [key]})),
            (&sign, json!({"narinfos": {key: narinfo}})),
            (&sign, of_path("url")),
            (&sign, of_path("store_path")),
            (&sign, of_path("references/0")),
            (&addresses, json!({"objects": {key: {"length": 1, "sha256": "A".repeat(43) + "="}}})),
            (
                "/api/multipart/request-parts",
                json!({"object_key": key, "upload_id": "x", "start_part_number": 1, "num_parts": 1}),
            ),
            ("/api/multipart/list-parts", json!({"object_key": key, "upload_id": "x"})),
            ("/api/multipart/complete", json!({"object_key": key, "upload_id": "x", "parts": parts})),
            ("/api/pins/main", json!({"store_path": key})),
        ];
        for (call, body) in calls {
            let answer = server.request(Method::POST, call).json(&body).send().await.unwrap();
            let (status, text) = refusal(answer).await;
            let fits =
                [StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND].contains(&status);
            assert!(fits, "{call} {key:?}: {status} {text}");
        }
        let encoded = utf8_percent_encode(key, NON_ALPHANUMERIC);
        for (method, call, rest) in [
            (Method::HEAD, "/api/objects/", ""),
            (Method::GET, "/api/closures/", ""),
            (Method::GET, "/api/paths/", ""),
            (Method::GET, "/api/paths/", "/why"),
            (Method::POST, "/api/paths/", "/delete"),
            (Method::POST, "/api/pending_closures/", "/complete"),
            (Method::POST, "/api/pins/", ""),
            (Method::DELETE, "/api/pins/", ""),
            (Method::GET, "/", ""),
            (Method::HEAD, "/", ""),
        ] {
            let request = server.request(method.clone(), &format!("{call}{encoded}{rest}"));
            let status = request.json(&json!({"store_path": path.store_path})).send().await.unwrap().status();
            assert!(status.is_client_error(), "{method} {call} {key:?}: {status}");
        }
    }
    assert_eq!(server.place().list_bucket().await, before);
}

#[tokio::test]
async fn bodies_that_grow_are_refused() {
    let server = TestServer::start().await;
    let bomb = zstd::encode_all(&vec![b' '; 64 << 20][..], 1).unwrap();
    for encoding in ["gzip", "zstd", "br", "deflate", "gzip, identity"] {
        let request = server.request(Method::POST, "/api/pending_closures");
        let request = request.header("content-encoding", encoding).body(bomb.clone());
        let (status, text) = refusal(request.send().await.unwrap()).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{encoding}: {text}");
    }
    for body in ["[".repeat(1 << 20), format!("{{\"closure\":{}", "{\"a\":".repeat(200_000))] {
        let request = server.request(Method::POST, "/api/pending_closures").body(body);
        let (status, text) = refusal(request.send().await.unwrap()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        assert!(text.len() < 500, "{text}");
    }
}
