//! Retention: what each rule of a policy keeps, the plan that says so, and the guard before it.

use niks3_protocol::api::gc::plan::{DropRule, GcPlan, KeepRule};
use niks3_protocol::api::gc::{GcReason, GcState, GcStatus};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::closure::TestPath;
use crate::support::{TestServer, refusal};

impl TestServer {
    async fn start_policy(&self, policy: &Value) -> GcStatus {
        let answer = self.request(Method::POST, "/api/gc").json(policy).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, StatusCode::ACCEPTED, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Collects as a policy asks for it, at once.
    async fn apply(&self, mut policy: Value) -> GcStatus {
        policy["force"] = json!(true);
        let started = self.start_policy(&policy).await;
        self.end_of(&started).await
    }

    /// Lets a closure, and the pins that point to it now, be so many days old.
    async fn age(&self, path: &TestPath, days: u32) {
        let key = path.key();
        let sql = format!(
            "update closures set updated_at = now() - interval '{days} days' where key = '{key}';
             update pins set updated_at = now() - interval '{days} days' where closure_key = '{key}'"
        );
        self.place().sql(&sql).await;
    }

    async fn left<const N: usize>(&self, paths: [&TestPath; N]) -> [bool; N] {
        let mut left = [false; N];
        for (there, path) in left.iter_mut().zip(paths) {
            *there = self.has(path).await;
        }
        left
    }
}

/// A path of its own whose NAR does not compress.
fn path(name: &str, size: usize) -> TestPath {
    let mut state = name.bytes().fold(7_u64, |state, byte| state * 31 + u64::from(byte));
    let noise = std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u8::try_from(state >> 56).unwrap()
    });
    TestPath::with_nar(name, noise.take(size).collect(), &[])
}

fn plan(run: &GcStatus) -> &GcPlan {
    run.plan.as_ref().unwrap()
}

#[tokio::test]
async fn the_size_limit_drops_what_was_longest_unused_and_nothing_pinned_or_young() {
    let server = TestServer::start().await;
    let paths = ["pinned", "oldest", "older", "old", "young"].map(|name| path(name, 10_000));
    for path in &paths {
        server.push(&[path]).await;
    }
    let [pinned, oldest, older, old, young] = &paths;
    server.pin("release", pinned).await;
    for (path, days) in [(pinned, 90), (oldest, 60), (older, 30), (old, 20)] {
        server.age(path, days).await;
    }
    // Three fit, with their listings and narinfos, and not four.
    let run = server.apply(json!({ "max_size": 35_000 })).await;
    assert_eq!(run.state, GcState::Succeeded, "{run:?}");
    assert_eq!(server.left([pinned, oldest, older, old, young]).await, [true, false, false, true, true]);
    let plan_of = plan(&run);
    assert_eq!((plan_of.dropped_by[0].rule, plan_of.dropped_by[0].roots), (DropRule::MaxSize, 2));
    assert!(plan_of.keep.bytes < 35_000 && plan_of.condemn.bytes > 20_000, "{plan_of:?}");
    assert_eq!(run.stats.bytes_freed, plan_of.delete.bytes);
    assert_eq!(run.stats.objects_deleted_after_grace_period, 6);

    // What is younger than min_age stays, however little may stay.
    let run = server.apply(json!({ "max_size": 1 })).await;
    assert_eq!(server.left([pinned, old, young]).await, [true, false, true]);
    assert!(plan(&run).notes[0].contains("more than max_size 1"), "{:?}", plan(&run).notes);
    server.apply(json!({ "max_size": 1, "min_age": "0s" })).await;
    assert_eq!(server.left([pinned, young]).await, [true, false]);
}

#[tokio::test]
async fn what_is_read_stays_and_a_part_that_is_read_stays_without_its_whole() {
    let server = TestServer::start().await;
    let part = path("part", 100);
    let whole = TestPath::new("whole", &[&part]);
    let [read, unread] = ["read", "unread"].map(|name| path(name, 100));
    server.push(&[&whole, &part]).await;
    for path in [&read, &unread] {
        server.push(&[path]).await;
    }
    for path in [&whole, &read, &unread] {
        server.age(path, 40).await;
    }
    for key in [read.key(), part.key()] {
        assert_eq!(server.get(&format!("/{key}")).await.status(), StatusCode::OK);
    }
    let policy = json!({ "older_than": "720h", "keep_if_read_within": "336h" });
    let run = server.apply(policy.clone()).await;
    assert_eq!(server.left([&read, &part, &whole, &unread]).await, [true, true, false, false], "{run:?}");
    let kept: Vec<_> = plan(&run).kept_by.iter().map(|count| (count.rule, count.roots)).collect();
    assert_eq!(kept, [(KeepRule::KeepIfReadWithin, 2)]);

    server.place().sql("update reads set read_on = current_date - 15").await;
    server.apply(policy).await;
    assert_eq!(server.left([&read, &part]).await, [false, false]);
    assert_eq!(server.place().rows::<(i64,)>("select count(*) from reads").await, [(0,)]);
}

#[tokio::test]
async fn pin_rules_keep_the_last_names_and_earlier_targets() {
    let server = TestServer::start().await;
    let [one, two, three, four, free] = ["one", "two", "three", "four", "free"].map(|name| path(name, 100));
    for path in [&one, &two, &three, &four, &free] {
        server.push(&[path]).await;
    }
    // main moved twice; of the names of ci, one was written long ago.
    for path in [&one, &two, &three] {
        server.pin("main", path).await;
    }
    server.pin("ci-old", &four).await;
    for path in [&one, &two, &three, &four] {
        server.age(path, 50).await;
    }
    server.pin("ci-new", &free).await;
    let rules = json!([
        { "prefix": "main", "keep_revisions": 2 },
        { "prefix": "ci-", "keep_last": 1 },
        { "prefix": "nobody-", "max_age": "1h" },
    ]);
    let run = server.apply(json!({ "pin_rules": rules })).await;
    assert_eq!(run.state, GcState::Succeeded, "{run:?}");
    assert_eq!(
        server.left([&one, &two, &three, &four, &free]).await,
        [false, true, true, false, true],
        "{run:?}"
    );
    let found = plan(&run);
    let dropped: Vec<_> =
        found.dropped_pins.iter().map(|pin| (pin.name.as_str(), pin.prefix.as_str())).collect();
    assert_eq!((dropped, found.pins_dropped), (vec![("ci-old", "ci-")], 1));
    assert_eq!((found.dropped_by[0].rule, found.dropped_by[0].roots), (DropRule::PinRules, 2));
    assert!(found.notes[0].contains("nobody-"), "{:?}", found.notes);
    assert!(server.place().in_bucket("pins/ci-new").await && !server.place().in_bucket("pins/ci-old").await);
    let names = "select name from pins order by name";
    assert_eq!(server.place().rows::<(String,)>(names).await, [("ci-new".into(),), ("main".into(),)]);

    // A pin that moves back keeps what it came from; one that is deleted keeps nothing.
    server.pin("main", &two).await;
    server.apply(json!({ "older_than": "24h", "pin_rules": [{ "prefix": "", "keep_revisions": 2 }] })).await;
    assert_eq!(server.left([&two, &three]).await, [true, true]);
    server.age(&two, 50).await;
    let unpin = server.request(Method::DELETE, "/api/pins/main").send().await.unwrap();
    assert_eq!(unpin.status(), StatusCode::NO_CONTENT);
    server.apply(json!({ "older_than": "24h", "pin_rules": [{ "prefix": "", "keep_revisions": 2 }] })).await;
    assert_eq!(server.left([&two, &three]).await, [false, false]);
}

#[tokio::test]
async fn the_guard_stops_before_anything_goes() {
    let server = TestServer::start().await;
    let paths = ["a", "b", "c", "d"].map(|name| path(name, 100));
    for path in &paths {
        server.push(&[path]).await;
    }
    for path in &paths[1..] {
        server.age(path, 40).await;
    }
    for limits in [json!({ "max_delete_percent": 74 }), json!({ "max_delete_objects": 8 })] {
        let mut policy = json!({ "older_than": "720h" });
        policy.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
        let run = server.apply(policy.clone()).await;
        assert_eq!((run.state, run.reason), (GcState::Failed, Some(GcReason::SafetyLimitReached)), "{run:?}");
        let error = run.error.as_ref().unwrap();
        assert!(error.contains("9 of 12 live objects (75 %"), "{error}");
        assert_eq!((run.stats.old_closures_deleted, run.stats.objects_marked_for_deletion), (0, 0));
        let condemned = "select count(*) from objects where condemned_at is not null";
        assert_eq!(server.place().rows::<(i64,)>(condemned).await, [(0,)]);
        // A dry run says so, and succeeds.
        policy["dry_run"] = json!(true);
        let dry = server.apply(policy).await;
        assert!(
            dry.state == GcState::Succeeded && plan(&dry).notes[0].contains("a run would stop"),
            "{dry:?}"
        );
    }
    let run = server.apply(json!({ "older_than": "720h", "max_delete_percent": 75 })).await;
    assert_eq!((run.state, run.stats.objects_deleted_after_grace_period), (GcState::Succeeded, 9));
}

#[tokio::test]
async fn a_dry_run_says_what_a_run_does_and_changes_nothing() {
    let server = TestServer::start().await;
    let shared = path("shared", 5000);
    let [gone, kept] = ["gone", "kept"].map(|name| TestPath::new(name, &[&shared]));
    let alone = path("alone", 3000);
    for closure in [&[&gone, &shared][..], &[&kept, &shared], &[&alone]] {
        server.push(closure).await;
    }
    server.age(&gone, 40).await;
    server.age(&alone, 41).await;
    let policy = json!({ "older_than": "720h" });
    let mut dry = policy.clone();
    dry["dry_run"] = json!(true);
    let before = "select json_agg(o order by id)::text from objects o";
    let rows = server.place().rows::<(String,)>(before).await;
    let said = server.apply(dry).await;
    assert_eq!(server.place().rows::<(String,)>(before).await, rows);
    assert_eq!(server.place().rows::<(i64,)>("select count(*) from closures").await, [(3,)]);

    let found = plan(&said);
    assert_eq!((found.live.objects, found.keep.objects, found.condemn.objects), (12, 6, 6));
    let largest: Vec<_> =
        found.largest_dropped.iter().map(|root| root.store_path.as_deref().unwrap()).collect();
    assert_eq!(largest, [alone.store_path.as_str(), gone.store_path.as_str()]);
    // What another closure keeps is not freed with it.
    assert!(found.largest_dropped[1].unique_bytes < 1000 && found.largest_dropped[1].bytes > 5000);
    assert_eq!((found.largest_kept[0].rule, found.largest_kept.len()), (KeepRule::OlderThan, 1));
    let did = server.apply(policy).await;
    assert_eq!(said.stats.bytes_freed, did.stats.bytes_freed);
    assert_eq!(plan(&said), plan(&did));
    assert_eq!(server.left([&shared, &gone, &kept, &alone]).await, [true, false, true, false]);

    // Runs are there by number, the plan with each.
    let list = server.request(Method::GET, "/api/gc/runs").send().await.unwrap();
    let runs: Vec<GcStatus> = list.json().await.unwrap();
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [did.id, said.id]);
    let one =
        server.request(Method::GET, &format!("/api/gc/runs/{}", said.id.unwrap())).send().await.unwrap();
    assert_eq!(one.json::<GcStatus>().await.unwrap(), said);
    for (path, status) in [("/api/gc/runs/x", 400), ("/api/gc/runs/99", 404), ("/api/gc/runs?limit=-1", 400)]
    {
        let answer = server.request(Method::GET, path).send().await.unwrap();
        assert_eq!(refusal(answer).await.0.as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn a_policy_that_means_nothing_or_is_unsafe_is_refused() {
    let server = TestServer::start().await;
    for (policy, sentence) in [
        (json!({}), "says of nothing that it may go"),
        (json!({ "older_than": "30d" }), "older_than"),
        (json!({ "older_than": "1h", "keep_tags": 3 }), "keep_tags, which this server does not know"),
        (json!({ "pin_rules": [{ "prefix": "a", "keep_las": 3 }] }), "pin_rules.0.keep_las"),
        (json!({ "older_than": "1h", "failed_uploads_older_than": "1h" }), "give at least 5h5m"),
        (json!({ "older_than": "1h", "max_delete_percent": 0 }), "1 to 100"),
        (json!({ "older_than": "1h", "max_size": -1 }), "max_size"),
        (json!([]), "policy"),
    ] {
        let answer = server.request(Method::POST, "/api/gc").json(&policy).send().await.unwrap();
        let (status, text) = refusal(answer).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{policy}");
        assert!(text.contains(sentence), "{policy}: {text}");
    }
    let runs = server.place().rows::<(i64,)>("select count(*) from gc_runs").await;
    assert_eq!(runs, [(0,)]);
    let abort = server.request(Method::POST, "/api/gc/abort").send().await.unwrap();
    assert_eq!(refusal(abort).await.0, StatusCode::NOT_FOUND);
}
