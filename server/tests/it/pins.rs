//! Pins: names for closures that collections keep.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::closure::TestPath;
use crate::support::{TestServer, refusal};

async fn set(server: &TestServer, name: &str, store_path: &str) -> reqwest::Response {
    let body = json!({ "store_path": store_path });
    server.request(Method::POST, &format!("/api/pins/{name}")).json(&body).send().await.unwrap()
}

async fn delete(server: &TestServer, name: &str) -> reqwest::Response {
    server.request(Method::DELETE, &format!("/api/pins/{name}")).send().await.unwrap()
}

async fn list(server: &TestServer) -> Vec<Value> {
    server.request(Method::GET, "/api/pins").send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn pins_are_created_moved_listed_and_deleted() {
    let server = TestServer::start().await;
    let [old, new] = ["release-1", "release-2"].map(|name| TestPath::new(name, &[]));
    server.push(&[&old]).await;
    server.push(&[&new]).await;
    assert!(list(&server).await.is_empty());
    assert_eq!(set(&server, "main", old.store_path.as_str()).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(set(&server, "a.b_C-1", old.store_path.as_str()).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(server.place().stored_bytes("pins/main").await, old.store_path.as_str().as_bytes());

    assert_eq!(set(&server, "main", new.store_path.as_str()).await.status(), StatusCode::NO_CONTENT);
    let pins = list(&server).await;
    assert_eq!((&pins[0]["name"], &pins[1]["name"]), (&json!("a.b_C-1"), &json!("main")));
    assert_eq!(pins[1]["store_path"], new.store_path.as_str());
    assert!(pins[1]["updated_at"].as_str() > pins[1]["created_at"].as_str(), "{pins:?}");
    assert_eq!(server.place().stored_bytes("pins/main").await, new.store_path.as_str().as_bytes());

    assert_eq!(delete(&server, "main").await.status(), StatusCode::NO_CONTENT);
    assert!(!server.place().in_bucket("pins/main").await);
    assert_eq!(refusal(delete(&server, "main").await).await.0, StatusCode::NOT_FOUND);
    assert_eq!(list(&server).await.len(), 1);
}

#[tokio::test]
async fn only_a_pushed_closure_is_pinned() {
    let server = TestServer::start().await;
    let dependency = TestPath::new("dependency", &[]);
    let root = TestPath::new("root", &[&dependency]);
    server.push(&[&root, &dependency]).await;
    let stranger = TestPath::new("stranger", &[]);
    // A dependency is in the cache, but no closure of its own: nobody refreshes or expires it as one.
    for path in [&stranger, &dependency] {
        let (status, text) = refusal(set(&server, "main", path.store_path.as_str()).await).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(text.contains(path.store_path.as_str()) && text.contains("push it first"), "{text}");
    }
    for (text, sentence) in [
        ("", "store_path"),
        ("/nix/store/x", "store_path"),
        ("../../etc", "store_path"),
        ("a\u{0}", "store_path"),
    ] {
        let (status, said) = refusal(set(&server, "main", text).await).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text:?}: {said}");
        assert!(said.contains(sentence), "{said}");
    }
    // Another name or store under the same hash is not what was pushed.
    let hash = root.store_path.hash();
    for other in [format!("/nix/store/{hash}-other"), format!("/gnu/store/{hash}-root")] {
        let answer = set(&server, "main", &other).await;
        assert!(answer.status().is_client_error(), "{other}: {}", answer.status());
    }
    assert!(list(&server).await.is_empty() && !server.place().in_bucket("pins/main").await);
}

#[tokio::test]
async fn names_are_what_the_contract_allows() {
    let server = TestServer::start().await;
    let path = TestPath::new("path", &[]);
    server.push(&[&path]).await;
    for name in ["a", "A.b_c-9", &"x".repeat(255), "..a"] {
        assert_eq!(
            set(&server, name, path.store_path.as_str()).await.status(),
            StatusCode::NO_CONTENT,
            "{name}"
        );
    }
    // S3 takes this one; a server that keeps objects in files does not, and that is no failure of ours.
    let longest = "x".repeat(256);
    let answer = set(&server, &longest, path.store_path.as_str()).await;
    if answer.status() == StatusCode::NO_CONTENT {
        assert!(server.place().in_bucket(&format!("pins/{longest}")).await);
    } else {
        let (status, text) = refusal(answer).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        assert!(text.contains("the storage does not take the pin's object"), "{text}");
    }
    for name in [&"x".repeat(257), "a%20b", "a%2Fb", "a%00b", "%2E%2E%2E", "%C3%A9", "a%0Ab"] {
        let (status, text) = refusal(set(&server, name, path.store_path.as_str()).await).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{name}: {text}");
        assert!(text.contains("is not a pin name"), "{text}");
        assert_eq!(refusal(delete(&server, name).await).await.0, StatusCode::BAD_REQUEST, "{name}");
    }
    assert_eq!(list(&server).await.len(), 5);
}

#[tokio::test]
async fn a_pin_holds_while_the_bucket_is_asked_in_any_order() {
    let server = TestServer::start().await;
    let paths = ["one", "two", "three"].map(|name| TestPath::new(name, &[]));
    for path in &paths {
        server.push(&[path]).await;
    }
    let replica = server.replica(|_| {}).await;
    let writes = (0..12).map(|number| {
        let (server, path) = (if number % 2 == 0 { &server } else { &replica }, &paths[number % 3]);
        async move { set(server, "main", path.store_path.as_str()).await.status() }
    });
    for status in futures::future::join_all(writes).await {
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    assert_eq!(list(&replica).await.len(), 1);
    server.place().sql("update closures set updated_at = now() - interval '1 day'").await;
    let pinned = list(&server).await[0]["store_path"].as_str().unwrap().to_owned();
    let run = server.request(Method::DELETE, "/api/closures?older-than=1h&force=true");
    assert_eq!(run.send().await.unwrap().status(), StatusCode::ACCEPTED);
    let mut status = Value::Null;
    for _ in 0..3000 {
        status = server.request(Method::GET, "/api/gc/status").send().await.unwrap().json().await.unwrap();
        if status["state"] != "running" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for path in &paths {
        let kept = server.place().in_bucket(&path.nar_key()).await;
        assert_eq!(kept, path.store_path.as_str() == pinned, "{}: {status}", path.store_path);
    }
}
