//! Deleting a path at once: what goes with it, what holds it, and that nothing else is touched. The promise that
//! what stays is whole is that of collections: a deletion takes their steps (docs/gc.md).

use niks3_protocol::api::gc::{GcReason, GcState, GcStatus};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::closure::{TestPath, begin_request};
use crate::support::{ADMIN, TestServer, refusal};

impl TestServer {
    async fn delete_path(&self, path: &TestPath, request: &Value) -> GcStatus {
        let call = format!("/api/paths/{}/delete", path.store_path.hash().as_str());
        let answer = self.request(Method::POST, &call).json(request).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, StatusCode::ACCEPTED, "{text}");
        self.end_of(&serde_json::from_str(&text).unwrap()).await
    }
}

const CONDEMNED: &str = "select json_agg(json_build_array(key, condemned_at) order by key)::text from objects where condemned_at is not null";

#[tokio::test]
async fn what_depends_on_it_goes_and_nothing_else_is_touched() {
    let server = TestServer::start().await;
    let [secret, shared, old] = ["secret", "shared", "old"].map(|name| TestPath::new(name, &[]));
    let tainted = TestPath::new("tainted", &[&secret, &shared]);
    let above = TestPath::new("above", &[&tainted]);
    let clean = TestPath::new("clean", &[&shared]);
    server.push(&[&above, &tainted, &secret, &shared]).await;
    server.push(&[&clean, &shared]).await;
    server.push(&[&old]).await;
    // What waits in its grace period goes on waiting.
    let place = server.place();
    place
        .sql(&format!(
            "update closures set updated_at = now() - interval '9 days' where key = '{}'",
            old.key()
        ))
        .await;
    server.collect("older-than=24h&deletion-grace=9h").await;
    let waiting = place.rows::<(String,)>(CONDEMNED).await;

    let run = server.delete_path(&secret, &json!({})).await;
    assert_eq!((run.state, run.error.as_deref()), (GcState::Succeeded, None), "{run:?}");
    assert_eq!((run.stats.old_closures_deleted, run.stats.objects_deleted_after_grace_period), (1, 9));
    let plan = run.plan.unwrap();
    assert_eq!((plan.paths_deleted, plan.live.objects, plan.delete.objects), (3, 18, 9));
    for (path, stays) in
        [(&secret, false), (&tainted, false), (&above, false), (&shared, true), (&clean, true), (&old, true)]
    {
        assert_eq!(server.has(path).await, stays, "{}", path.store_path);
    }
    assert_eq!(place.rows::<(String,)>(CONDEMNED).await, waiting);
}

#[tokio::test]
async fn a_push_under_way_holds_it_and_force_ends_that() {
    let server = TestServer::start().await;
    let secret = TestPath::new("secret", &[]);
    let next = TestPath::new("next", &[&secret]);
    server.push(&[&secret]).await;
    // It counts on the secret to be there.
    let begun = server.begin(ADMIN, &begin_request(&next, &[&next, &secret])).await;
    server.upload(ADMIN, &begun, &[&next]).await;
    let run = server.delete_path(&secret, &json!({})).await;
    assert_eq!((run.state, run.reason), (GcState::Failed, Some(GcReason::Held)), "{run:?}");
    assert!(run.error.unwrap().contains("1 unfinished push would have to go too"));
    assert!(server.has(&secret).await);

    let run = server.delete_path(&secret, &json!({ "force": true })).await;
    assert_eq!((run.state, run.stats.failed_uploads_deleted), (GcState::Succeeded, 1), "{run:?}");
    assert!(!server.has(&secret).await);
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NOT_FOUND);
    // Its client begins anew, and is told that all of it is missing.
    let begun = server.begin(ADMIN, &begin_request(&next, &[&next, &secret])).await;
    assert!(begun.pending_objects.contains_key(&secret.nar_key()));
    server.upload(ADMIN, &begun, &[&next, &secret]).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    assert!(server.has(&next).await && server.has(&secret).await);
}

#[tokio::test]
async fn a_nar_that_another_path_has_too_stays_and_that_is_said() {
    let server = TestServer::start().await;
    let secret = TestPath::new("secret", &[]);
    let twin = TestPath::with_nar("twin", secret.nar.clone(), &[]);
    server.push(&[&secret]).await;
    server.push(&[&twin]).await;
    let run = server.delete_path(&secret, &json!({})).await;
    assert_eq!(run.state, GcState::Succeeded, "{run:?}");
    let notes = run.plan.unwrap().notes;
    assert!(
        notes[0].contains(twin.store_path.as_str()) && notes[0].contains("it stays for these"),
        "{notes:?}"
    );
    assert!(!server.place().in_bucket(&secret.key()).await && server.has(&twin).await);
}

#[tokio::test]
async fn who_may_not_and_what_is_not_there() {
    let server = TestServer::start().await;
    let path = TestPath::new("path", &[]);
    server.push(&[&path]).await;
    let hash = path.store_path.hash();
    let call = format!("/api/paths/{}/delete", hash.as_str());
    let policy = json!({ "older_than": "1h", "delete": { "hash": hash.as_str() } });
    for (call, body, status, sentence) in [
        ("/api/paths/00000000000000000000000000000000/delete", json!({}), 404, "the cache has no 0000"),
        ("/api/paths/short/delete", json!({}), 400, "32-digit"),
        (call.as_str(), json!({ "dryrun": true }), 400, "dryrun"),
        ("/api/gc", policy, 400, "not a policy's"),
    ] {
        let answer = server.request(Method::POST, call).json(&body).send().await.unwrap();
        let (answered, text) = refusal(answer).await;
        assert_eq!(answered.as_u16(), status, "{call}: {text}");
        assert!(text.contains(sentence), "{call}: {text}");
    }
    for (method, call) in [(Method::POST, call), (Method::GET, "/api/usage".to_owned())] {
        let answer = server.anonymous(method, &call).json(&json!({})).send().await.unwrap();
        assert_eq!(refusal(answer).await.0, StatusCode::UNAUTHORIZED, "{call}");
    }
    assert!(server.has(&path).await);
}
