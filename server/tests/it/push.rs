//! Begin, sign, complete: what a client is told, and what is committed.

use niks3_protocol::api::closures::Closure;
use niks3_protocol::api::pending_closures::BeginRequest;
use niks3_protocol::nix::NarInfo;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::closure::{TestPath, begin_request, sign_request};
use crate::support::{ADMIN, TestServer, refusal};

const BEGIN: &str = "/api/pending_closures";

fn chain() -> (TestPath, TestPath) {
    let dependency = TestPath::new("dependency", &[]);
    let root = TestPath::new("root", &[&dependency]);
    (root, dependency)
}

async fn post(server: &TestServer, path: &str, body: &Value) -> (StatusCode, String) {
    refusal(server.request(Method::POST, path).json(body).send().await.unwrap()).await
}

#[tokio::test]
async fn the_bodies_are_those_of_the_contract() {
    let server = TestServer::start().await;
    let (root, dependency) = chain();
    let mut body = serde_json::to_value(begin_request(&root, &[&root, &dependency])).unwrap();
    // As Go writes an empty list; and a field that some later client sends.
    body["objects"][1]["refs"] = Value::Null;
    body["some_day"] = json!(true);
    let answer = server.request(Method::POST, BEGIN).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let begun: Value = answer.json().await.unwrap();
    let id = begun["id"].as_str().expect("the id should be text");
    assert!(id.parse::<u64>().is_ok() && begun["started_at"].as_str().unwrap().contains('T'), "{begun}");
    let pending = begun["pending_objects"].as_object().unwrap();
    assert_eq!(pending.len(), 6);
    let narinfo = &pending[&root.key()];
    assert_eq!(narinfo["type"], "narinfo");
    assert!(narinfo["presigned_url"].as_str().unwrap().contains("X-Amz-Expires=18000"), "{narinfo}");
    assert!(narinfo.get("multipart_info").is_none(), "{narinfo}");

    let sign = format!("{BEGIN}/{id}/sign");
    let answer = server.request(Method::POST, &sign).json(&sign_request(&[&root])).send().await.unwrap();
    let signed: Value = answer.json().await.unwrap();
    let signature = signed["signatures"][root.key()][0].as_str().unwrap();
    let narinfo: NarInfo = root.narinfo(&[signature]).parse().unwrap();
    assert!(server.public_key.verifies(&narinfo.fingerprint(), &narinfo.signatures[0]));
}

#[tokio::test]
async fn a_second_push_uploads_nothing() {
    let server = TestServer::start().await;
    let (root, dependency) = chain();
    server.push(&[&root, &dependency]).await;
    let begun = server.begin(ADMIN, &begin_request(&root, &[&root, &dependency])).await;
    assert!(begun.pending_objects.is_empty(), "{:?}", begun.pending_objects);
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);

    // What another closure shares is not sent again either.
    let other = TestPath::new("other", &[&dependency]);
    let begun = server.begin(ADMIN, &begin_request(&other, &[&other, &dependency])).await;
    let keys: Vec<&String> = begun.pending_objects.keys().collect();
    let mut expected = [other.key(), other.nar_key(), other.listing_key()];
    expected.sort();
    assert_eq!(keys, expected.iter().collect::<Vec<_>>());
    server.upload(ADMIN, &begun, &[&other]).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    let closure = server.request(Method::GET, &format!("/api/closures/{}", other.key()));
    let closure: Closure = closure.send().await.unwrap().json().await.unwrap();
    assert_eq!(closure.objects.len(), 6);
    let stats: Value = server.get("/api/cache-stats").await.json().await.unwrap();
    let bytes: usize = [&root, &dependency, &other].iter().map(|path| path.nar.len()).sum();
    assert_eq!(stats, json!({"objects": 9, "logical_bytes": bytes}));
}

#[tokio::test]
async fn what_was_never_uploaded_is_named_and_nothing_is_committed() {
    let server = TestServer::start().await;
    let (root, dependency) = chain();
    let begun = server.begin(ADMIN, &begin_request(&root, &[&root, &dependency])).await;
    let (status, text) = refusal(server.complete(ADMIN, &begun.id).await).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(text.contains("4 of the upload's objects are not in the bucket"), "{text}");

    server.upload(ADMIN, &begun, &[&root, &dependency]).await;
    server.place().lose_object(&dependency.nar_key()).await;
    let (status, text) = refusal(server.complete(ADMIN, &begun.id).await).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(text.contains("1 of the upload's objects") && text.contains(&dependency.nar_key()), "{text}");
    let committed = format!("/api/closures/{}", root.key());
    let answer = server.request(Method::GET, &committed).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let live = format!("/api/objects/{}", root.key());
    let answer = server.request(Method::HEAD, &live).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);

    // The same upload goes on once the object is there.
    server.upload(ADMIN, &begun, &[&root, &dependency]).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    let answer = server.request(Method::HEAD, &live).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_upload_ends_with_its_completion() {
    let server = TestServer::start().await;
    let (root, dependency) = chain();
    let begun = server.begin(ADMIN, &begin_request(&root, &[&root, &dependency])).await;
    server.upload(ADMIN, &begun, &[&root, &dependency]).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    for id in [begun.id.as_str(), "999999", "-1", "0x1", "99999999999999999999999", "a%00b"] {
        let (status, text) = refusal(server.complete(ADMIN, id).await).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{id}: {text}");
        let (status, _) = post(&server, &format!("{BEGIN}/{id}/sign"), &json!({"narinfos": {}})).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{id}");
    }
    let committed = server.request(Method::GET, &format!("/api/closures/{}", root.key()));
    assert_eq!(committed.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn begins_that_make_no_sense_are_refused_with_what_is_wrong() {
    let server = TestServer::start().await;
    let (root, dependency) = chain();
    let good = serde_json::to_value(begin_request(&root, &[&root, &dependency])).unwrap();
    let key = root.key();
    for (pointer, value, sentence) in [
        ("/closure", json!("nothing"), "\"nothing\" is not a narinfo's key"),
        ("/closure", json!(root.nar_key()), "is not a narinfo's key"),
        ("/closure", json!(TestPath::new("else", &[]).key()), "is not among the objects"),
        ("/closure", json!(7), "the body is not right at closure"),
        ("/closures", json!(["../x"]), "is not a narinfo's key"),
        ("/objects", json!([]), "is not among the objects"),
        ("/objects", Value::Null, "the body is not right at objects"),
        ("/objects/0/key", json!("../../etc/passwd"), "is not a key of a binary cache"),
        ("/objects/0/key", json!("nar/short.nar.zst"), "is not a key of a binary cache"),
        ("/objects/0/key", json!("nix-cache-info"), "is not a key of a binary cache"),
        ("/objects/0/key", json!("pins/main"), "is not a key of a binary cache"),
        ("/objects/0/key", json!(format!("/{key}")), "is not a key of a binary cache"),
        ("/objects/0/key", json!("log/a\u{0}b.drv"), "is not a key of a binary cache"),
        ("/objects/0/type", json!("nar"), "which its key is not"),
        ("/objects/0/type", json!("blob"), "the body is not right at objects[0].type"),
        ("/objects/0/refs/0", json!("//x"), "refers to a key that is none"),
        ("/objects/1/nar_size", json!(-1), "the body is not right at objects[1].nar_size"),
        ("/objects/1/nar_size", json!((5_u64 << 40) + 1), "larger than the 5 TiB"),
    ] {
        let mut body = good.clone();
        body["closures"] = json!([]);
        *body.pointer_mut(pointer).unwrap() = value.clone();
        let (status, text) = post(&server, BEGIN, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{pointer} {value}: {text}");
        assert!(text.contains(sentence), "{pointer} {value}: {text}");
    }
    for body in ["", "{", "[]", "null", "{} {}", "\u{0}", &"[".repeat(100_000)] {
        let answer = server.request(Method::POST, BEGIN).body(body.to_owned()).send().await.unwrap();
        assert_eq!(refusal(answer).await.0, StatusCode::BAD_REQUEST, "{}", &body[..body.len().min(20)]);
    }
    for left in ["uploads", "objects"] {
        let rows = server.place().rows::<(i64,)>(&format!("select count(*) from {left}")).await;
        assert_eq!(rows, [(0,)], "a refused begin leaves no {left}");
    }
}

#[tokio::test]
async fn one_object_listed_twice_keeps_what_either_says() {
    let server = TestServer::start().await;
    let (root, dependency) = chain();
    let mut body: BeginRequest = begin_request(&root, &[&root, &dependency]);
    let mut without = body.objects[0].clone();
    without.refs.clear();
    body.objects.insert(0, without.clone());
    body.objects.push(without);
    let begun = server.begin(ADMIN, &body).await;
    server.upload(ADMIN, &begun, &[&root, &dependency]).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    let closure = server.request(Method::GET, &format!("/api/closures/{}", root.key()));
    let closure: Closure = closure.send().await.unwrap().json().await.unwrap();
    assert_eq!(closure.objects.len(), 6, "{:?}", closure.objects);
}

#[tokio::test]
async fn what_the_closure_refers_to_is_in_the_upload_or_in_the_cache() {
    let server = TestServer::start().await;
    let (root, dependency) = chain();
    let begun = server.begin(ADMIN, &begin_request(&root, &[&root])).await;
    server.upload(ADMIN, &begun, &[&root]).await;
    let (status, text) = refusal(server.complete(ADMIN, &begun.id).await).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(text.contains(&dependency.key()) && text.contains("push it too"), "{text}");

    server.push(&[&dependency]).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    let closure = server.request(Method::GET, &format!("/api/closures/{}", root.key()));
    let closure: Closure = closure.send().await.unwrap().json().await.unwrap();
    assert_eq!(closure.objects.len(), 6);
}

#[tokio::test]
async fn verify_s3_finds_what_was_lost() {
    let server = TestServer::start().await;
    let (root, dependency) = chain();
    server.push(&[&root, &dependency]).await;
    server.place().lose_object(&dependency.nar_key()).await;
    let mut body = begin_request(&root, &[&root, &dependency]);
    assert!(server.begin(ADMIN, &body).await.pending_objects.is_empty());
    body.verify_s3 = true;
    let begun = server.begin(ADMIN, &body).await;
    assert_eq!(begun.pending_objects.keys().collect::<Vec<_>>(), [&dependency.nar_key()]);
    server.upload(ADMIN, &begun, &[&root, &dependency]).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    assert!(server.place().in_bucket(&dependency.nar_key()).await);
}

#[tokio::test]
async fn many_roots_are_one_upload() {
    let server = TestServer::start().await;
    let shared = TestPath::new("shared", &[]);
    let roots = ["one", "two"].map(|name| TestPath::new(name, &[&shared]));
    let mut body = begin_request(&roots[0], &[&roots[0], &roots[1], &shared]);
    body.closures = vec![roots[1].key()];
    let begun = server.begin(ADMIN, &body).await;
    server.upload(ADMIN, &begun, &[&roots[0], &roots[1], &shared]).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    let body = json!({"closures": [roots[0].key(), roots[1].key(), shared.key()]});
    let present = server.request(Method::POST, "/api/closures/refresh").json(&body);
    let present: Value = present.send().await.unwrap().json().await.unwrap();
    let mut expected = roots.map(|root| root.key());
    expected.sort();
    assert_eq!(present, json!({ "present": expected }));
}
