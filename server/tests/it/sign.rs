//! Signing: nothing is signed that contradicts its upload.

use niks3_protocol::api::pending_closures::UploadObject;
use niks3_protocol::object_key::ObjectKind;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use crate::support::closure::{TestPath, begin_request, sign_request};
use crate::support::{ADMIN, TestServer, refusal};

async fn sign(server: &TestServer, id: &str, body: &Value) -> (StatusCode, String) {
    let path = format!("/api/pending_closures/{id}/sign");
    refusal(server.request(Method::POST, &path).json(body).send().await.unwrap()).await
}

#[tokio::test]
async fn a_narinfo_that_contradicts_its_upload_is_refused() {
    let server = TestServer::start().await;
    let dependency = TestPath::new("dependency", &[]);
    let root = TestPath::new("root", &[&dependency]);
    let begun = server.begin(ADMIN, &begin_request(&root, &[&root, &dependency])).await;
    let stranger = TestPath::new("stranger", &[]);
    let good = serde_json::to_value(sign_request(&[&root])).unwrap();
    for (field, value, status, sentence) in [
        ("store_path", json!(dependency.store_path), 400, "this key is not the one of"),
        (
            "store_path",
            json!(format!("/gnu/store/{}-root", root.store_path.hash())),
            400,
            "is not in /nix/store",
        ),
        ("store_path", json!("/nix/store/short-root"), 400, "the body is not right at narinfos."),
        ("url", json!(stranger.nar_key()), 400, "does not have the hash"),
        ("url", json!(root.listing_key()), 400, "is not a NAR's key"),
        ("url", json!("../../etc/passwd"), 400, "is not a NAR's key"),
        ("nar_hash", json!(stranger.metadata().nar_hash), 400, "does not have the hash"),
        ("nar_hash", json!("sha256:1"), 400, "the body is not right at narinfos."),
        ("compression", json!("xz"), 400, "is not xz"),
        ("nar_size", json!(root.nar.len() + 1), 400, "bytes in the upload"),
        ("nar_size", json!(u64::MAX), 400, "larger than the 5 TiB"),
        ("references", json!([stranger.store_path]), 400, "the upload does not list the reference"),
        ("references", json!(["/gnu/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x"]), 400, "is not in /nix/store"),
        ("deriver", json!("/etc/passwd"), 400, "the body is not right at narinfos."),
        ("ca", json!("fixed:sha256:x\nSig: evil"), 400, "the content address is not one"),
        ("ca", json!("a\u{0}b"), 400, "the content address is not one"),
    ] {
        let mut body = good.clone();
        body["narinfos"][root.key()][field] = value.clone();
        let (said, text) = sign(&server, &begun.id, &body).await;
        assert_eq!(said.as_u16(), status, "{field} {value}: {text}");
        assert!(text.contains(sentence), "{field} {value}: {text}");
    }
    let body = serde_json::to_value(sign_request(&[&stranger])).unwrap();
    let (status, text) = sign(&server, &begun.id, &body).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{text}");
    assert!(text.contains("is not part of upload"), "{text}");
    let rows = server.place().rows::<(i64,)>("select count(*) from signed_narinfos").await;
    assert_eq!(rows, [(0,)], "nothing was signed");
    assert_eq!(server.sign(ADMIN, &begun.id, &[&root]).await.signatures[&root.key()].len(), 1);
}

#[tokio::test]
async fn sizes_that_no_plan_gave_are_bounded_too() {
    let server = TestServer::start().await;
    let root = TestPath::new("root", &[]);
    let mut body = begin_request(&root, &[&root]);
    body.objects[1].nar_size = None;
    let begun = server.begin(ADMIN, &body).await;
    let mut body = serde_json::to_value(sign_request(&[&root])).unwrap();
    body["narinfos"][root.key()]["nar_size"] = json!(1_u64 << 63);
    assert_eq!(sign(&server, &begun.id, &body).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_sign_beside_the_uploads_expiry_finds_no_upload() {
    let server = TestServer::start().await;
    let root = TestPath::new("root", &[]);
    let begun = server.begin(ADMIN, &begin_request(&root, &[&root])).await;
    let mut expiry = server.place().database().connect().await.unwrap();
    let delete = format!("begin; delete from uploads where id = {}", begun.id);
    sqlx::raw_sql(AssertSqlSafe(delete)).execute(&mut expiry).await.unwrap();
    let body = serde_json::to_value(sign_request(&[&root])).unwrap();
    let signing = sign(&server, &begun.id, &body);
    let committing = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        sqlx::raw_sql("commit").execute(&mut expiry).await.unwrap();
    };
    let ((status, text), ()) = tokio::join!(signing, committing);
    assert_eq!(status, StatusCode::NOT_FOUND, "{text}");
    expiry.close().await.unwrap();
}

#[tokio::test]
async fn a_log_lives_as_long_as_its_path() {
    let server = TestServer::start().await;
    let (root, late) = (TestPath::new("built", &[]), TestPath::new("late", &[]));
    let mut logs = Vec::new();
    for (path, first) in [(&root, true), (&late, false)] {
        let deriver = format!("{}.drv", path.store_path).replace("/nix/store/", "");
        let log = format!("log/{deriver}");
        let object = || UploadObject {
            key: log.clone(),
            kind: ObjectKind::BuildLog,
            refs: Vec::new(),
            nar_size: None,
        };
        // The log comes with the path, or with a later push of what is there.
        for with_log in if first { vec![true] } else { vec![false, true] } {
            let mut body = begin_request(path, &[path]);
            if with_log {
                body.objects.push(object());
            }
            let begun = server.begin(ADMIN, &body).await;
            server.upload(ADMIN, &begun, &[path]).await;
            let mut signed = serde_json::to_value(sign_request(&[path])).unwrap();
            signed["narinfos"][path.key()]["deriver"] = json!(format!("/nix/store/{deriver}"));
            let call = format!("/api/pending_closures/{}/sign", begun.id);
            let answer = server.request(Method::POST, &call).json(&signed).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            if with_log {
                server.place().write_object(&log, b"log").await;
            }
            assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
        }
        let closure: Value = server
            .request(Method::GET, &format!("/api/closures/{}", path.key()))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert!(closure["objects"].as_array().unwrap().contains(&json!(log)), "{closure}");
        logs.push(log);
        server.pin(path.store_path.name(), path).await;
    }
    // What keeps the path keeps its log, however late that came; and nothing else does.
    for (unpinned, left) in
        [(None, [true, true]), (Some(&root), [false, true]), (Some(&late), [false, false])]
    {
        if let Some(path) = unpinned {
            let unpin = server.request(Method::DELETE, &format!("/api/pins/{}", path.store_path.name()));
            assert_eq!(unpin.send().await.unwrap().status(), StatusCode::NO_CONTENT);
        }
        server.collect("older-than=0s&force=true").await;
        assert_eq!([server.has(&root).await, server.has(&late).await], left);
        let place = server.place();
        assert_eq!([place.in_bucket(&logs[0]).await, place.in_bucket(&logs[1]).await], left);
    }
}
