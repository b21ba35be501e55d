//! A server of niks3 1.7, which knows none of the extensions, by the bodies it sends.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::Cache;
use crate::support::nix::noise;
use crate::support::program::Niks3;
use crate::support::script::{Answer, Script};

/// A body that niks3 1.7.0 sends or takes.
macro_rules! golden {
    ($name:literal) => {
        serde_json::from_str::<Value>(include_str!(concat!(
            "../../../protocol/tests/golden/",
            $name,
            ".json"
        )))
        .unwrap()
    };
}

/// The largest NAR that is one PUT, and the size of a part of a larger one.
const PART: usize = 10 << 20;
/// What S3 says to each part.
const TAGS: [&str; 4] = ["etag: \"1\"\r\n", "etag: \"2\"\r\n", "etag: \"3\"\r\n", "etag: \"4\"\r\n"];

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
                    let pending = if object["nar_size"].as_u64() > Some(PART as u64) {
                        let mut pending = golden!("begin-response")["pending_objects"][GOLDEN_NAR].clone();
                        // As many as there, for this bucket.
                        pending["multipart_info"]["part_urls"] = part_urls(&url, key, 1, 2);
                        pending
                    } else {
                        json!({ "type": object["type"], "presigned_url": format!("{url}/bucket/{key}") })
                    };
                    (key.to_owned(), pending)
                };
                let pending: serde_json::Map<_, _> =
                    body["objects"].as_array().unwrap().iter().map(object).collect();
                let started = "2026-07-01T10:00:00Z";
                (200, "", json!({ "id": "7", "started_at": started, "pending_objects": pending }).to_string())
            }
            "POST /api/multipart/request-parts" => {
                let (start, count) = (&body["start_part_number"], body["num_parts"].as_u64().unwrap());
                let mut answer = golden!("request-parts-response");
                let key = body["object_key"].as_str().unwrap();
                answer["part_urls"] = part_urls(&url, key, start.as_u64().unwrap(), count);
                answer["start_part_number"] = start.clone();
                (200, "", answer.to_string())
            }
            "POST /api/pending_closures/7/sign" => {
                let signature = format!("old.example.org-1:{}==", "A".repeat(86));
                let sign = |(key, _): (&String, &Value)| (key.clone(), json!([signature]));
                let signatures: serde_json::Map<_, _> =
                    body["narinfos"].as_object().unwrap().iter().map(sign).collect();
                (200, "", json!({ "signatures": signatures }).to_string())
            }
            "POST /api/multipart/complete"
            | "POST /api/pending_closures/7/complete"
            | "POST /api/pins/main" => (204, "", String::new()),
            line if part_number(line).is_some() => (200, TAGS[part_number(line).unwrap() - 1], String::new()),
            line if line.starts_with("PUT /bucket/") => (200, "etag: \"x\"\r\n", String::new()),
            "POST /api/closures/refresh" => (405, plain, "Method Not Allowed\n".to_owned()),
            _ => (404, plain, "404 page not found\n".to_owned()),
        }
    })
    .await;
    own.lock().unwrap().clone_from(&script.url);
    script
}

const GOLDEN_NAR: &str = "nar/0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73.nar.zst";

fn part_urls(url: &str, key: &str, start: u64, count: u64) -> Value {
    let address = |number| format!("{url}/bucket/{key}?partNumber={number}&uploadId=abc");
    (start..start + count).map(address).collect()
}

fn part_number(line: &str) -> Option<usize> {
    line.strip_prefix("PUT ")?.split_once("?partNumber=")?.1.split('&').next()?.parse().ok()
}

/// What a body is made of: the names of its fields, and the kinds of their values.
fn shape(body: &Value) -> Value {
    match body {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(items) => {
            let mut shapes: Vec<Value> = items.iter().map(shape).collect();
            shapes.dedup();
            Value::Array(shapes)
        }
        Value::String(_) => json!("string"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) | Value::Null => body.clone(),
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_large_nar_goes_in_parts_by_the_plain_contract() {
    let cache = Cache::start().await; // for its Nix store
    let server = niks3_1_7().await;
    let path = cache.store.add("large", &[("x", &noise(35_000_000))]);
    let push = cache.niks3(&["push", path.as_str()]).env("NIKS3_SERVER_URL", &server.url);
    let said = push.hide(server.url.trim_start_matches("http://"), "OTHER").run().await.succeeded();
    insta::assert_snapshot!(said, @r"
    1 path: 0 cached, 1 to upload (SIZE)
    Pushed 1 path to OTHER: SIZE sent in TIME
    ");

    let (requests, lines) = (server.requests(), server.lines());
    let only = |line: &str| {
        let places: Vec<usize> = (0..lines.len()).filter(|place| lines[*place] == line).collect();
        assert_eq!(places.len(), 1, "{line}: {lines:?}");
        (places[0], serde_json::from_slice::<Value>(&requests[places[0]].body).unwrap_or_default())
    };
    // Two parts were signed with the begin; the others are asked for, all at once.
    let (_, asked) = only("POST /api/multipart/request-parts");
    assert_eq!(shape(&asked), shape(&golden!("request-parts-request")));
    assert_eq!((&asked["upload_id"], &asked["start_part_number"]), (&json!("abc"), &json!(3)));

    let mut parts: Vec<(usize, usize)> =
        (0..lines.len()).filter_map(|place| Some((part_number(&lines[place])?, place))).collect();
    parts.sort_unstable();
    let numbers: Vec<usize> = parts.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 3, 4], "each part once: {lines:?}");
    let bodies: Vec<&[u8]> = parts.iter().map(|(_, place)| requests[*place].body.as_slice()).collect();
    assert!(bodies[..3].iter().all(|body| body.len() == PART), "a part that is not the last is whole");
    assert!((1..=PART).contains(&bodies[3].len()), "{}", bodies[3].len());
    let dump = cache.store.run("nix-store", &["--dump", path.as_str()]).stdout;
    assert!(zstd::decode_all(bodies.concat().as_slice()).unwrap() == dump, "the parts are another NAR");

    let (completed, complete) = only("POST /api/multipart/complete");
    assert_eq!(shape(&complete), shape(&golden!("complete-multipart-request")));
    assert_eq!((&complete["upload_id"], &complete["object_key"]), (&json!("abc"), &asked["object_key"]));
    let part = |number: usize| json!({ "part_number": number, "etag": format!("\"{number}\"") });
    assert_eq!(complete["parts"], (1..=4).map(part).collect::<Value>());
    assert!(parts.iter().all(|(_, place)| *place < completed), "it was put together too early: {lines:?}");
    assert!(completed < only("POST /api/pending_closures/7/sign").0, "{lines:?}");
}
