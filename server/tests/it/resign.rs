//! Signing stored narinfos again when the keys that sign change.

mod reload;
mod runs;

use std::time::Duration;

use niks3_protocol::api::gc::GcState;
use niks3_protocol::api::resign::ResignStatus;
use niks3_protocol::nix::{NarInfo, SecretKey, Signature};
use niks3_server::settings::Parts;
use reqwest::{Method, StatusCode};
use tokio::time::{Instant, sleep};

use crate::support::closure::TestPath;
use crate::support::nix::{copy, nar};
use crate::support::relay::Relay;
use crate::support::{Place, TestServer, s3_address};

/// The keys of a cache, as numbers say: the first is that of every test.
fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&format!("test-{number}"), [6 + number; 32]).unwrap()
}

fn trust(numbers: &[u8]) -> String {
    let keys: Vec<String> = numbers.iter().map(|number| key(*number).public_key().to_string()).collect();
    keys.join(" ")
}

/// These keys sign.
fn sign_with<'a>(place: &'a Place, numbers: &'a [u8]) -> impl Fn(&mut Parts) + 'a {
    move |parts| {
        let file =
            |number: &u8| place.write_file(&format!("key-{number}"), &key(*number).to_secret_text()).into();
        parts.signing_keys = numbers.iter().map(file).collect();
        parts.settings.resign.rate = 0;
    }
}

impl TestServer {
    async fn resign_status(&self) -> Option<ResignStatus> {
        let answer = self.get("/api/resign").await;
        if answer.status() == StatusCode::NOT_FOUND {
            return None;
        }
        Some(answer.json().await.unwrap())
    }

    /// Waits for a run with these keys of which something holds.
    async fn resign_until(&self, keys: &[u8], holds: impl Fn(&ResignStatus) -> bool) -> ResignStatus {
        let wanted: Vec<String> = keys.iter().map(|number| key(*number).public_key().to_string()).collect();
        let give_up = Instant::now() + Duration::from_secs(40);
        loop {
            let status = self.resign_status().await;
            if let Some(status) = &status
                && status.params.keys == wanted
                && holds(status)
            {
                return status.clone();
            }
            assert!(Instant::now() < give_up, "{status:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn resigned(&self, keys: &[u8]) -> ResignStatus {
        self.resign_until(keys, |status| status.state == GcState::Succeeded).await
    }

    async fn stored_narinfo(&self, path: &TestPath) -> NarInfo {
        let bytes = self.place().stored_bytes(&path.key()).await;
        String::from_utf8(zstd::decode_all(bytes.as_slice()).unwrap()).unwrap().parse().unwrap()
    }

    /// The names of the keys whose signature a narinfo in the bucket has, each of which has to verify; and its row
    /// says the same.
    async fn signed_by(&self, path: &TestPath) -> Vec<String> {
        let narinfo = self.stored_narinfo(path).await;
        let ours = [1, 2, 3].map(key);
        for signature in &narinfo.signatures {
            let signer = ours.iter().find(|key| key.name() == signature.name());
            let verifies = |key: &SecretKey| key.public_key().verifies(&narinfo.fingerprint(), signature);
            assert!(signer.is_none_or(verifies), "{signature} does not verify");
        }
        let query = format!(
            "select n.signatures, o.stored_size, o.settles_at is null from narinfos n join objects o using (key)
             where key = '{}'",
            path.key()
        );
        let rows = self.place().rows::<(Vec<String>, i64, bool)>(&query).await;
        let said: Vec<String> = narinfo.signatures.iter().map(ToString::to_string).collect();
        let size = i64::try_from(self.place().stored_bytes(&path.key()).await.len()).unwrap();
        assert_eq!(rows, [(said, size, true)], "what the bucket has is what the row says");
        narinfo.signatures.iter().map(Signature::name).map(str::to_owned).collect()
    }

    async fn assert_compared_clean(&self) {
        let answer =
            self.request(Method::POST, "/api/fsck").json(&serde_json::json!({})).send().await.unwrap();
        let run: serde_json::Value = answer.json().await.unwrap();
        for _ in 0..500 {
            let now =
                self.request(Method::GET, &format!("/api/fsck/runs/{}", run["id"])).send().await.unwrap();
            let now: serde_json::Value = now.json().await.unwrap();
            if now["state"] != "running" {
                assert_eq!(
                    (&now["state"], &now["findings"]),
                    (&"succeeded".into(), &serde_json::Value::Null),
                    "{now}"
                );
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("fsck does not end");
    }
}

/// docs/keys.md, by the word of Nix: before, during and after a rotation, for clients that trust one key or both.
#[tokio::test]
async fn nix_reads_what_was_stored_whichever_of_the_keys_it_trusts() {
    let server = TestServer::start().await;
    let place = server.place().clone();
    let paths: Vec<TestPath> = (0..6)
        .map(|number| TestPath::with_nar(&format!("path-{number}"), nar(&format!("content {number}")), &[]))
        .collect();
    for path in &paths {
        server.push(&[path]).await;
    }
    assert!(copy(&server.url, &trust(&[1]), &paths[0]).await.is_ok());
    let refused = copy(&server.url, &trust(&[2]), &paths[0]).await.unwrap_err();
    assert!(refused.contains("signature"), "{refused}");
    server.stop().await;

    // During: one a second, and the server stops in the middle of it.
    let slow = |parts: &mut Parts| {
        sign_with(&place, &[1, 2])(parts);
        parts.settings.resign.rate = 1;
    };
    let server = TestServer::at(place.clone(), slow).await;
    let status = server.resign_until(&[1, 2], |status| status.counts.signed >= 2).await;
    assert_eq!((status.state, status.counts.total), (GcState::Running, 6), "{status:?}");
    let (mut both, mut old) = (None, None);
    for path in &paths {
        match server.stored_narinfo(path).await.signatures.len() {
            1 => old = Some(path),
            _ => both = Some(path),
        }
    }
    let (both, old) = (both.unwrap(), old.unwrap());
    for keys in [&[1][..], &[2], &[1, 2]] {
        assert_eq!(copy(&server.url, &trust(keys), both).await, Ok(()), "{keys:?}");
    }
    assert_eq!(copy(&server.url, &trust(&[1]), old).await, Ok(()));
    assert_eq!(copy(&server.url, &trust(&[1, 2]), old).await, Ok(()));
    server.stop().await;

    // After, gone on with by another server.
    let server = TestServer::at(place.clone(), sign_with(&place, &[1, 2])).await;
    let done = server.resigned(&[1, 2]).await;
    assert_eq!((done.started_at, done.counts.signed, done.remaining), (status.started_at, 6, 0), "{done:?}");
    for path in &paths {
        assert_eq!(server.signed_by(path).await, ["test-1", "test-2"]);
    }
    for keys in [&[1][..], &[2], &[1, 2]] {
        assert_eq!(copy(&server.url, &trust(keys), old).await, Ok(()), "{keys:?}");
    }
    server.assert_compared_clean().await;
    server.stop().await;

    // The old key retires: what it signed stays so.
    let server = TestServer::at(place.clone(), sign_with(&place, &[2])).await;
    assert_eq!(server.resigned(&[2]).await.counts.signed, 0);
    assert_eq!(copy(&server.url, &trust(&[1]), old).await, Ok(()));
    assert_eq!(copy(&server.url, &trust(&[2]), old).await, Ok(()));
    server.stop().await;

    // And is revoked.
    let revoked = |parts: &mut Parts| {
        sign_with(&place, &[2])(parts);
        parts.settings.revoked_keys = vec![key(1).public_key()];
    };
    let server = TestServer::at(place.clone(), revoked).await;
    server.resign_until(&[2], |status| status.state == GcState::Succeeded && status.counts.signed == 6).await;
    assert!(copy(&server.url, &trust(&[1]), old).await.is_err());
    assert_eq!(copy(&server.url, &trust(&[1, 2]), old).await, Ok(()));
    assert_eq!(server.signed_by(old).await, ["test-2"]);
}

/// A write arrives when its narinfo could have been deleted: rule 13 of docs/gc.md.
#[tokio::test]
async fn a_late_write_does_not_bring_back_what_a_collection_deletes() {
    let server = TestServer::start().await;
    let place = server.place().clone();
    let path = TestPath::new("old", &[]);
    server.push(&[&path]).await;
    let mut relay = Relay::to(&s3_address()).await;
    relay.delay_at(".narinfo?x-id=PutObject", 2500);
    relay.up();
    let s3 = format!("http://{}", relay.address);
    let slow = TestServer::at(place.clone(), |parts| {
        sign_with(&place, &[1, 2])(parts);
        parts.bucket.endpoint = Some(s3);
        parts.bucket.request_timeout = Duration::from_secs(1);
    })
    .await;
    slow.resign_until(&[1, 2], |status| status.state == GcState::Running).await;
    let claimed = "select count(*) from objects where settles_at > now() and live and stored_size is null";
    while place.rows::<(i64,)>(claimed).await != [(1,)] {
        sleep(Duration::from_millis(10)).await;
    }
    place.sql("update closures set updated_at = now() - interval '2 days'").await;
    server.collect_by_force().await;
    assert!(place.in_bucket(&path.key()).await, "a write of it is under way");
    server.assert_compared_clean().await;
    // Its server dies, as far as it can while the test lives, and what it sent arrives.
    drop(slow);
    place.sql("update resign_runs set state = 'failed' where state = 'running'").await;
    let give_up = Instant::now() + Duration::from_secs(20);
    while server.stored_narinfo(&path).await.signatures.len() < 2 {
        assert!(Instant::now() < give_up, "the late write never arrived");
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_secs(3)).await;
    server.collect_by_force().await;
    assert!(place.in_bucket(&path.key()).await, "not before 2 T have passed");
    place.sql("update objects set settles_at = now() where settles_at is not null").await;
    server.collect_by_force().await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(place.list_objects().await, [""; 0], "it is gone for good");
    relay.down().await;
}

/// A collection has claimed it, or another push's commit may be writing: it is not touched.
#[tokio::test]
async fn what_is_being_deleted_or_written_is_left_alone() {
    let server = TestServer::start().await;
    let place = server.place().clone();
    let (deleting, written) = (TestPath::new("deleting", &[]), TestPath::new("written", &[]));
    server.push(&[&deleting]).await;
    server.push(&[&written]).await;
    let keys = [deleting.key(), written.key()];
    place
        .sql(&format!(
            "update objects set deleting_since = now(), deleting_by = 7 where key = '{}';
             update objects set settles_at = now() + interval '1 hour' where key = '{}'",
            keys[0], keys[1]
        ))
        .await;
    let quick = |parts: &mut Parts| {
        sign_with(&place, &[1, 2])(parts);
        parts.bucket.request_timeout = Duration::from_secs(1);
    };
    let other = TestServer::at(place.clone(), quick).await;
    let status = other.resign_until(&[1, 2], |status| status.counts.left == 1).await;
    assert_eq!((status.state, status.counts.signed), (GcState::Running, 0), "{status:?}");
    for path in [&deleting, &written] {
        assert_eq!(server.stored_narinfo(path).await.signatures.len(), 1);
    }
    place.sql("update objects set settles_at = now() where settles_at is not null").await;
    assert_eq!(other.resigned(&[1, 2]).await.counts.signed, 1);
    assert_eq!(other.signed_by(&written).await, ["test-1", "test-2"]);
    assert_eq!(server.stored_narinfo(&deleting).await.signatures.len(), 1);
}

impl TestServer {
    async fn collect_by_force(&self) {
        let run = self.request(Method::DELETE, "/api/closures?older-than=1h&force=true");
        assert_eq!(run.send().await.unwrap().status(), StatusCode::ACCEPTED);
        loop {
            let status = self.request(Method::GET, "/api/gc/status").send().await.unwrap();
            let status: serde_json::Value = status.json().await.unwrap();
            if status["state"] != "running" {
                assert_eq!(status["state"], "succeeded", "{status}");
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}
