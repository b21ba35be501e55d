//! Runs: one at a time, gone on with where they ended, begun by themselves or when asked for.

use niks3_protocol::server_config::ResignMode;

use super::*;
use crate::support::{ADMIN, refusal};

async fn pushed(server: &TestServer, count: usize) -> Vec<TestPath> {
    let paths: Vec<TestPath> =
        (0..count).map(|number| TestPath::new(&format!("path-{number}"), &[])).collect();
    for path in &paths {
        server.push(&[path]).await;
    }
    paths
}

/// How many narinfos a server wrote anew, by its metrics.
async fn written(server: &TestServer) -> u64 {
    let told = server.get("/metrics").await.text().await.unwrap();
    let line =
        told.lines().find_map(|line| line.strip_prefix("niks3_resign_narinfos_total{outcome=\"signed\"} "));
    line.map_or(0, |number| number.parse().unwrap())
}

#[tokio::test]
async fn two_replicas_do_it_once() {
    let server = TestServer::start().await;
    let place = server.place().clone();
    let paths = pushed(&server, 7).await;
    server.stop().await;
    let keys = sign_with(&place, &[1, 2]);
    let (one, two) = tokio::join!(TestServer::at(place.clone(), &keys), TestServer::at(place.clone(), &keys));
    assert_eq!(one.resigned(&[1, 2]).await.counts.signed, 7);
    assert_eq!(written(&one).await + written(&two).await, 7);
    let runs = "select count(*) from resign_runs where params->'keys' @> '[\"{}\"]'";
    let runs = runs.replace("{}", &key(2).public_key().to_string());
    assert_eq!(place.rows::<(i64,)>(&runs).await, [(1,)]);
    for path in &paths {
        assert_eq!(two.signed_by(path).await, ["test-1", "test-2"]);
    }
    // Another server with these keys finds all done.
    let three = TestServer::at(place.clone(), &keys).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(place.rows::<(i64,)>(&runs).await, [(1,)]);
    drop(three);
}

/// Its server died between a write and the row that tells of it; what others signed is there too.
#[tokio::test]
async fn what_a_dead_server_began_is_gone_on_with() {
    let server = TestServer::start().await;
    let place = server.place().clone();
    let paths = pushed(&server, 5).await;
    let other = SecretKey::from_seed("elsewhere-1", [99; 32]).unwrap().sign("something else");
    let half = &paths[3];
    let mut narinfo = server.stored_narinfo(half).await;
    narinfo.signatures.push(key(2).sign(&narinfo.fingerprint()));
    place.write_encoded(&half.key(), narinfo.to_string().as_bytes()).await;
    let mut keys: Vec<String> = paths.iter().map(TestPath::key).collect();
    keys.sort();
    let signing = [1, 2].map(|number| key(number).public_key().to_string());
    let params = serde_json::json!({ "keys": signing });
    let counts = serde_json::json!({"total": 5, "done": 2, "signed": 2});
    place
        .sql(&format!(
            "update objects set stored_size = null where key = '{}';
             update narinfos set signatures = signatures || '{{{other}}}' where key = '{}';
             insert into resign_runs (state, params, began_at, counts, after, updated_at)
             values ('running', '{params}', '2026-01-01T00:00:00Z', '{counts}', '{}', now() - interval '2 minutes')",
            half.key(),
            keys[4],
            keys[1]
        ))
        .await;
    server.stop().await;
    let server = TestServer::at(place.clone(), sign_with(&place, &[1, 2])).await;
    let done = server.resigned(&[1, 2]).await;
    // The two that the dead one had done are not looked at again.
    assert_eq!((done.counts.done, done.counts.total), (5, 5), "{done:?}");
    assert_eq!(done.started_at.year(), 2026);
    for path in &paths {
        let expected: &[&str] = match keys.iter().position(|key| *key == path.key()) {
            Some(0 | 1) => &["test-1"],
            Some(4) => &["test-1", "elsewhere-1", "test-2"],
            _ => &["test-1", "test-2"],
        };
        if place
            .rows::<(i64,)>(&format!(
                "select 1::bigint from objects where key = '{}' and stored_size is null",
                path.key()
            ))
            .await
            .is_empty()
        {
            assert_eq!(server.signed_by(path).await, expected);
        }
    }
    server.assert_compared_clean().await;
}

/// A commit of a server that has the former keys still comes after the run.
#[tokio::test]
async fn what_former_keys_sign_meanwhile_is_found_later() {
    let server = TestServer::start().await;
    let place = server.place().clone();
    let early = pushed(&server, 2).await;
    let new = TestServer::at(place.clone(), sign_with(&place, &[1, 2])).await;
    new.resigned(&[1, 2]).await;
    new.stop().await;
    let late = TestPath::new("late", &[]);
    server.push(&[&late]).await;
    // A tampered row, so that it shows what is looked at.
    place
        .sql(&format!(
            "update narinfos set pushed_at = now() - interval '1 day', signatures = '{{}}' where key = '{}'",
            early[0].key()
        ))
        .await;
    place.sql("update resign_runs set began_at = now() - interval '3 minutes'").await;
    let new = TestServer::at(place.clone(), sign_with(&place, &[1, 2])).await;
    let give_up = Instant::now() + Duration::from_secs(20);
    while new.stored_narinfo(&late).await.signatures.len() < 2 {
        assert!(Instant::now() < give_up);
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_millis(300)).await;
    assert_eq!(new.signed_by(&late).await, ["test-1", "test-2"]);
    assert_eq!(
        place
            .rows::<(Vec<String>,)>(&format!(
                "select signatures from narinfos where key = '{}'",
                early[0].key()
            ))
            .await,
        [(vec![],)]
    );
    assert_eq!(new.resigned(&[1, 2]).await.counts.total, 2, "the run over all is what is told of");
    // Who asks for it has all looked at.
    let answer = new.request(Method::POST, "/api/resign").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    new.resign_until(&[1, 2], |status| status.counts.total == 3 && status.state == GcState::Succeeded).await;
    assert_eq!(new.signed_by(&early[0]).await, ["test-1", "test-2"]);
}

#[tokio::test]
async fn by_hand_only_an_admin_begins_it() {
    let server = TestServer::start().await;
    let place = server.place().clone();
    let path = &pushed(&server, 1).await[0];
    server.stop().await;
    let token = place.write_file("token", "a-token-that-may-push-0123456789abcdefgh");
    let manual = |parts: &mut Parts| {
        sign_with(&place, &[1, 2])(parts);
        parts.settings.resign.mode = ResignMode::Manual;
        parts.auth.static_tokens = serde_json::from_value(serde_json::json!([
            {"name": "pusher", "token_file": token, "permissions": ["Push", "GC"], "pins": []}
        ]))
        .unwrap();
    };
    let server = TestServer::at(place.clone(), manual).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(server.signed_by(path).await, ["test-1"]);
    let anonymous = server.anonymous(Method::POST, "/api/resign").send().await.unwrap();
    assert_eq!(refusal(anonymous).await.0, StatusCode::UNAUTHORIZED);
    let pusher = "a-token-that-may-push-0123456789abcdefgh";
    let pusher = server.request_as(pusher, Method::POST, "/api/resign").send().await.unwrap();
    assert_eq!(refusal(pusher).await.0, StatusCode::FORBIDDEN);
    let begun = server.request_as(ADMIN, Method::POST, "/api/resign").send().await.unwrap();
    assert_eq!(begun.status(), StatusCode::ACCEPTED);
    server.resigned(&[1, 2]).await;
    assert_eq!(server.signed_by(path).await, ["test-1", "test-2"]);

    let without = TestServer::at(place.clone(), sign_with(&place, &[])).await;
    let (status, error) = refusal(without.request(Method::POST, "/api/resign").send().await.unwrap()).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(error.contains("no signing key"), "{error}");
}
