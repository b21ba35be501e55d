//! Collections: what goes, what stays, and what their status says. docs/gc.md gives the rules.

use niks3_protocol::api::gc::{GcState, GcStatus};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use crate::support::closure::{TestPath, begin_request};
use crate::support::dice::Dice;
use crate::support::relay::Relay;
use crate::support::{ADMIN, Place, TestServer, refusal, s3_address};

/// Everything goes that is not pinned and that no upload holds, at once.
const FORCE: &str = "older-than=0s&force=true";
const OLD: &str = "update closures set updated_at = now() - interval '2 days'";

impl TestServer {
    pub(crate) async fn start_gc(&self, query: &str) -> GcStatus {
        let answer = self.request(Method::DELETE, &format!("/api/closures?{query}")).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, StatusCode::ACCEPTED, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) async fn gc_status(&self) -> GcStatus {
        let answer = self.request(Method::GET, "/api/gc/status").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    }

    /// Collects and gives how it went.
    pub(crate) async fn collect(&self, query: &str) -> GcStatus {
        let started = self.start_gc(query).await;
        self.end_of(&started).await
    }

    /// How a run went that was started.
    pub(crate) async fn end_of(&self, started: &GcStatus) -> GcStatus {
        let give_up = Instant::now() + Duration::from_secs(20);
        loop {
            let status = self.gc_status().await;
            if status.id == started.id && status.state != GcState::Running {
                return status;
            }
            assert!(Instant::now() < give_up, "{status:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether all of a path's objects are there, or none; anything between is a failure.
    pub(crate) async fn has(&self, path: &TestPath) -> bool {
        let mut found = Vec::new();
        for key in [path.key(), path.nar_key(), path.listing_key()] {
            found.push(self.place().in_bucket(&key).await);
        }
        assert!(found.iter().all(|there| *there == found[0]), "{}: {found:?}", path.store_path);
        found[0]
    }

    pub(crate) async fn pin(&self, name: &str, path: &TestPath) {
        let pin = self.request(Method::POST, &format!("/api/pins/{name}"));
        let answer = pin.json(&json!({ "store_path": path.store_path })).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn old_closures_go_and_what_others_share_or_pins_hold_stays() {
    let server = TestServer::start().await;
    let shared = TestPath::new("shared", &[]);
    let [old, pinned, young] = ["old", "pinned", "young"].map(|name| TestPath::new(name, &[&shared]));
    let alone = TestPath::new("alone", &[]);
    for closure in [&[&old, &shared][..], &[&pinned, &shared], &[&alone]] {
        server.push(closure).await;
    }
    server.pin("release", &pinned).await;
    server.place().sql(OLD).await;
    server.push(&[&young, &shared]).await;

    // The first run condemns, and deletes nothing within the grace period.
    let first = server.collect("older-than=24h&deletion-grace=1h").await;
    assert_eq!(first.state, GcState::Succeeded, "{first:?}");
    assert_eq!((first.stats.old_closures_deleted, first.stats.objects_marked_for_deletion), (2, 6));
    assert_eq!(first.stats.objects_deleted_after_grace_period, 0);
    assert!(server.has(&old).await && server.has(&alone).await);
    let second = server.collect("older-than=24h&deletion-grace=1h").await;
    assert_eq!((second.stats.objects_marked_for_deletion, second.stats.bytes_freed), (0, 0));

    server.place().sql("update objects set condemned_at = condemned_at - interval '2 hours'").await;
    let third = server.collect("older-than=24h&deletion-grace=1h").await;
    assert_eq!(
        (third.stats.objects_deleted_after_grace_period, third.stats.objects_failed_to_delete),
        (6, 0)
    );
    assert!(third.stats.bytes_freed > 100, "{third:?}");
    assert!(!server.has(&old).await && !server.has(&alone).await);
    for path in [&shared, &pinned, &young] {
        assert!(server.has(path).await, "{}", path.store_path);
    }

    let unpin = server.request(Method::DELETE, "/api/pins/release").send().await.unwrap();
    assert_eq!(unpin.status(), StatusCode::NO_CONTENT);
    let last = server.collect(FORCE).await;
    assert_eq!((last.stats.old_closures_deleted, last.stats.objects_deleted_after_grace_period), (2, 9));
    assert_eq!(server.place().list_objects().await, Vec::<String>::new());
    assert_eq!(server.place().rows::<(i64,)>("select count(*) from objects").await, [(0,)]);
}

#[tokio::test]
async fn the_contracts_default_grace_is_the_second_parameter() {
    let server = TestServer::start().await;
    let path = TestPath::new("path", &[]);
    server.push(&[&path]).await;
    let run = server.collect("older-than=0s&pending-older-than=30m").await;
    assert_eq!(run.params.failed_uploads_older_than.to_string(), "30m");
    assert!(run.warnings[0].contains("is raised to 5h5m"), "{:?}", run.warnings);
    assert_eq!((run.stats.objects_marked_for_deletion, run.stats.objects_deleted_after_grace_period), (3, 0));
    server.place().sql("update objects set condemned_at = condemned_at - interval '31 minutes'").await;
    let run = server.collect("older-than=0s&failed-uploads-older-than=30m").await;
    assert_eq!(run.stats.objects_deleted_after_grace_period, 3);
}

#[tokio::test]
async fn a_failed_upload_goes_with_what_it_left_but_not_while_its_addresses_live() {
    let server = TestServer::start().await;
    let path = TestPath::new("abandoned", &[]);
    let begun = server.begin(ADMIN, &begin_request(&path, &[&path])).await;
    server.upload(ADMIN, &begun, &[&path]).await;
    server.place().sql("update uploads set started_at = now() - interval '3 days'").await;
    let run = server.collect("older-than=0s&failed-uploads-older-than=1h&force=true").await;
    assert_eq!((run.stats.failed_uploads_deleted, run.stats.objects_marked_for_deletion), (0, 0));
    let staged = format!("staging/{}/{}", begun.id, path.key());
    assert_eq!(server.place().list_objects().await, [path.listing_key(), path.nar_key()]);
    assert!(server.place().in_bucket(&staged).await);

    server.place().sql("update uploads set addresses_until = now() - interval '1 day'").await;
    let run = server.collect("older-than=0s&failed-uploads-older-than=1h&force=true").await;
    assert_eq!((run.stats.failed_uploads_deleted, run.stats.objects_deleted_after_grace_period), (1, 3));
    assert_eq!(server.place().list_objects().await, [""; 0]);
    assert!(!server.place().in_bucket(&staged).await, "what its client sent goes with it");
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_push_brings_back_what_is_in_its_grace() {
    let server = TestServer::start().await;
    let path = TestPath::new("comes-back", &[]);
    server.push(&[&path]).await;
    server.collect("older-than=0s&deletion-grace=1h").await;
    let begun = server.begin(ADMIN, &begin_request(&path, &[&path])).await;
    assert!(begun.pending_objects.is_empty(), "it was never gone");
    server.place().sql("update objects set condemned_at = condemned_at - interval '2 hours'").await;
    let run = server.collect("older-than=0s&deletion-grace=1h").await;
    assert_eq!(run.stats.objects_deleted_after_grace_period, 0, "an open upload holds it");
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    server.collect("older-than=1h&force=true").await;
    assert!(server.has(&path).await);
}

#[tokio::test]
async fn one_run_at_a_time_and_its_status_survives() {
    let server = TestServer::start().await;
    let answer = server.request(Method::GET, "/api/gc/status").send().await.unwrap();
    assert_eq!(refusal(answer).await.0, StatusCode::NOT_FOUND);
    for query in
        ["", "older-than=x", "older-than=-1h", "older-than=1h&force=maybe", "older-than=1h&deletion-grace=1"]
    {
        let answer = server.request(Method::DELETE, &format!("/api/closures?{query}")).send().await.unwrap();
        assert_eq!(refusal(answer).await.0, StatusCode::BAD_REQUEST, "{query}");
    }
    // A run that another server is at, as its row shows it.
    let first = server.collect("older-than=1h").await;
    server.place().sql("update gc_runs set state = 'running', finished_at = null, updated_at = now()").await;
    let joined = server.start_gc("older-than=60m&failed-uploads-older-than=6h").await;
    assert_eq!((joined.id, joined.state), (first.id, GcState::Running));
    let answer = server.request(Method::DELETE, "/api/closures?older-than=2h").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    let conflict: Value = answer.json().await.unwrap();
    assert!(conflict["error"].as_str().unwrap().contains("other parameters is running"), "{conflict}");
    assert_eq!(conflict["active_task"]["params"]["older_than"], "1h");

    // That server died: nobody has to wait for it for more than a minute.
    server.place().sql("update gc_runs set updated_at = now() - interval '61 seconds'").await;
    let status = server.gc_status().await;
    assert_eq!(status.state, GcState::Failed);
    assert!(status.error.unwrap().contains("the server that ran it stopped"));
    let second = server.collect("older-than=2h").await;
    assert!(second.id > first.id && second.state == GcState::Succeeded && second.finished_at.is_some());
    let replica = server.replica(|_| {}).await;
    server.stop().await;
    assert_eq!(replica.gc_status().await, second);
}

#[tokio::test]
async fn a_dead_sweepers_claim_is_taken_over_after_t() {
    let server = TestServer::start().await;
    let path = TestPath::new("claimed", &[]);
    server.push(&[&path]).await;
    server
        .place()
        .sql(
            "delete from closures; update objects set condemned_at = now() - interval '1 day',
                        deleting_since = now(), deleting_by = 0",
        )
        .await;
    let run = server.collect(FORCE).await;
    assert_eq!((run.stats.objects_deleted_after_grace_period, server.has(&path).await), (0, true));
    server.place().sql("update objects set deleting_since = now() - interval '301 seconds'").await;
    let run = server.collect(FORCE).await;
    assert_eq!((run.stats.objects_deleted_after_grace_period, server.has(&path).await), (3, false));
}

/// Rule 5: between a mark and its claims, a push of another path brings back a NAR that both have.
#[tokio::test]
async fn a_push_after_the_mark_defeats_the_claim() {
    let (place, mut relay) = (Place::create().await, Relay::to(&s3_address()).await);
    let url = format!("http://{}", relay.address);
    relay.delay(Dice::new(0, 0), 1);
    relay.up();
    let server =
        TestServer::at(place, |parts| parts.bucket.public_endpoint = parts.bucket.endpoint.replace(url))
            .await;
    let nar = b"what both hold".to_vec();
    let [one, other] = ["one", "other"].map(|name| TestPath::with_nar(name, nar.clone(), &[]));
    server.push(&[&one]).await;
    server.place().sql(OLD).await;
    server.collect("older-than=1h&deletion-grace=1h").await;
    server.place().sql("update objects set condemned_at = condemned_at - interval '2 hours'").await;

    relay.down().await;
    relay.delay(Dice::new(0, 0), 3000);
    relay.up();
    let started = server.start_gc("older-than=1h&deletion-grace=1h").await;
    let claimed = "select key from objects where deleting_since is not null";
    while server.place().rows::<(String,)>(claimed).await.is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    server.push(&[&other]).await;
    let claims = server.place().rows::<(String,)>(claimed).await;
    assert_eq!(claims, [(one.key(),)], "the push was to come before the collection's second claim");
    while server.gc_status().await.state == GcState::Running {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.gc_status().await.id, started.id);
    assert!(server.has(&other).await);
    assert!(!server.place().in_bucket(&one.key()).await);
}
