//! A server of niks3 1.7, which knows none of the extensions, by the bodies it sends.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::Cache;
use crate::support::program::Niks3;
use crate::support::script::{Answer, Script};

/// What niks3 1.7.0 answers, without a bucket behind it: uploads go to the script itself.
async fn niks3_1_7() -> Script {
    let own = Arc::new(Mutex::new(String::new()));
    let url = Arc::clone(&own);
    let script = Script::start(move |request| -> Answer {
        let url = url.lock().unwrap().clone();
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let plain = "content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n";
        match request.line.as_str() {
            "GET /api/cache-config" => {
                let key = "old.example.org-1:0dIv7lRr7KujeiTmD3Mwvhf9GYw6GO+mmdDfWM5mZNU=";
                (200, "", json!({ "substituter_url": url, "public_keys": [key] }).to_string())
            }
            "POST /api/pending_closures" => {
                let object = |object: &Value| {
                    let key = object["key"].as_str().unwrap();
                    let pending =
                        json!({ "type": object["type"], "presigned_url": format!("{url}/bucket/{key}") });
                    (key.to_owned(), pending)
                };
                let pending: serde_json::Map<_, _> =
                    body["objects"].as_array().unwrap().iter().map(object).collect();
                let started = "2026-07-01T10:00:00Z";
                (200, "", json!({ "id": "7", "started_at": started, "pending_objects": pending }).to_string())
            }
            "POST /api/pending_closures/7/sign" => {
                let signature = format!("old.example.org-1:{}==", "A".repeat(86));
                let sign = |(key, _): (&String, &Value)| (key.clone(), json!([signature]));
                let signatures: serde_json::Map<_, _> =
                    body["narinfos"].as_object().unwrap().iter().map(sign).collect();
                (200, "", json!({ "signatures": signatures }).to_string())
            }
            "POST /api/pending_closures/7/complete" | "POST /api/pins/main" => (204, "", String::new()),
            line if line.starts_with("PUT /bucket/") => (200, "etag: \"x\"\r\n", String::new()),
            "POST /api/closures/refresh" => (405, plain, "Method Not Allowed\n".to_owned()),
            _ => (404, plain, "404 page not found\n".to_owned()),
        }
    })
    .await;
    own.lock().unwrap().clone_from(&script.url);
    script
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_goes_by_the_plain_contract() {
    let cache = Cache::start().await; // for its Nix store
    let server = niks3_1_7().await;
    let path = cache.store.add("tree", &[("bin/run", b"#!/bin/sh\n")]);
    let user = cache.store.build("user", &format!("echo {path} > $out; echo log"), &[&path]);
    let push = cache.niks3(&["push", "--pin", "main", user.as_str()]).env("NIKS3_SERVER_URL", &server.url);
    let said = push.hide(server.url.trim_start_matches("http://"), "OTHER").run().await.succeeded();
    insta::assert_snapshot!(said, @r"
    2 paths: 0 cached, 2 to upload (SIZE)
    Pushed 2 paths to OTHER: SIZE sent in TIME
    Pinned /nix/store/HASH-user as main
    ");

    let lines = server.lines();
    let at = |line: &str| {
        lines.iter().position(|one| one == line).unwrap_or_else(|| panic!("no {line}: {lines:?}"))
    };
    let put = |key: &str| at(&format!("PUT /bucket/{key}"));
    let narinfos = [put(&path.narinfo_key()), put(&user.narinfo_key())];
    let (sign, complete) =
        (at("POST /api/pending_closures/7/sign"), at("POST /api/pending_closures/7/complete"));
    // NARs, listings and logs, then signatures, then narinfos with dependencies first, then the commit.
    assert!(narinfos[0] < narinfos[1] && sign < narinfos[0] && narinfos[1] < complete, "{lines:?}");
    let others: Vec<usize> = (0..lines.len())
        .filter(|index| lines[*index].starts_with("PUT") && !lines[*index].ends_with(".narinfo"))
        .collect();
    assert_eq!(others.len(), 5, "two NARs, two listings, one log: {lines:?}");
    assert!(others.iter().all(|index| *index < sign), "{lines:?}");
    assert_eq!(at("POST /api/pins/main"), lines.len() - 1);

    let begin = &server.requests()[at("POST /api/pending_closures")];
    let mut body: Value = serde_json::from_slice(&begin.body).unwrap();
    assert_eq!(body["closure"], user.narinfo_key());
    let known = ["closure", "objects"];
    body.as_object_mut().unwrap().retain(|field, _| !known.contains(&field.as_str()));
    assert_eq!(body, json!({}), "1.7 knows no such field");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_server_cannot_is_said() {
    let server = niks3_1_7().await;
    let run = Niks3::new(&["whoami", "--server-url", &server.url]);
    let said = run.hide(server.url.trim_start_matches("http://"), "OTHER").run().await.failed(1);
    insta::assert_snapshot!(said, @"error: OTHER is a server of an older version, which cannot say who you are");
}
