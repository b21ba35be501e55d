//! Comparing bucket and rows, and making rows of a bucket: of a lost database, and of one that `nix copy` wrote.

use std::time::Duration;

use niks3_protocol::nix::SecretKey;
use niks3_server::fsck::{self, Options, Summary};
use niks3_server::serve;
use niks3_server::settings::Parts;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::storage::wait_for_reason;
use crate::support::closure::{TestPath, begin_request};
use crate::support::{ADMIN, Place, TestServer};

impl Place {
    pub(crate) async fn fsck(&self, options: Options) -> (Summary, Vec<Value>) {
        self.fsck_with(options, |_| {}).await
    }

    /// The same, its configuration changed first.
    pub(crate) async fn fsck_with(
        &self,
        options: Options,
        change: impl FnOnce(&mut Parts) + Send,
    ) -> (Summary, Vec<Value>) {
        self.try_fsck(options, change).await.unwrap()
    }

    /// The same, which may fail.
    pub(crate) async fn try_fsck(
        &self,
        options: Options,
        change: impl FnOnce(&mut Parts) + Send,
    ) -> anyhow::Result<(Summary, Vec<Value>)> {
        let key = SecretKey::from_seed("test-1", [7; 32]).unwrap();
        let mut parts = self.parts("http://unused.example", &key);
        change(&mut parts);
        let app = serve::open(parts).await.unwrap();
        let mut report = Vec::new();
        let summary = fsck::run(&app, &options, &mut report).await?;
        let lines = String::from_utf8(report).unwrap();
        Ok((summary, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()))
    }
}

impl TestServer {
    pub(crate) async fn collect_and_wait(&self, parameters: &str) {
        let run = self.request(Method::DELETE, &format!("/api/closures?{parameters}")).send().await.unwrap();
        assert_eq!(run.status(), StatusCode::ACCEPTED);
        loop {
            let status = self.request(Method::GET, "/api/gc/status").send().await.unwrap();
            let status: Value = status.json().await.unwrap();
            if status["state"] != "running" {
                return assert_eq!(status["state"], "succeeded", "{status}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn adopt() -> Options {
    Options { adopt: true, ..Options::default() }
}

#[tokio::test]
async fn what_differs_is_found() {
    let server = TestServer::start().await;
    let (whole, lost) = (TestPath::new("whole", &[]), TestPath::new("lost", &[]));
    server.push(&[&whole]).await;
    server.push(&[&lost]).await;
    let place = server.place();
    let (summary, _) = place.fsck(Options::default()).await;
    assert!(summary.is_clean() && summary.rows == 6, "{summary:?}");

    place.lose_object(&lost.nar_key()).await;
    place.write_object(&whole.listing_key(), b"of another length").await;
    let stray = TestPath::new("stray", &[]).nar_key();
    place.write_object(&stray, b"stray").await;
    let (summary, lines) = place.fsck(Options::default()).await;
    assert_eq!((summary.missing, summary.other_size, summary.without_row), (1, 1, 1), "{summary:?}");
    let found = |kind: &str| {
        lines.iter().find(|line| line["finding"]["kind"] == kind).unwrap()["finding"]["key"].clone()
    };
    assert_eq!(found("missing"), json!(lost.nar_key()));
    assert_eq!(found("other_size"), json!(whole.listing_key()));
    assert_eq!(found("without_row"), json!(stray));
    assert_eq!(lines.last().unwrap()["summary"]["missing"], 1);

    let hour = Options { young: Duration::from_hours(1), ..Options::default() };
    let (summary, _) = place.fsck(hour).await;
    assert_eq!((summary.young, summary.without_row), (1, 0), "an upload may be about to commit it");
    let rest = Options { after: Some("z".to_owned()), ..Options::default() };
    assert!(place.fsck(rest).await.0.is_clean(), "nothing comes after this key");
}

/// The test of the promise behind `--adopt`: the database is gone, and nothing is lost.
#[tokio::test]
async fn a_lost_database_is_made_anew_from_the_bucket() {
    let server = TestServer::start().await;
    let base = TestPath::new("base", &[]);
    let (app, other) = (TestPath::new("app", &[&base]), TestPath::new("other", &[&base]));
    server.push(&[&app, &base]).await;
    server.push(&[&other, &base]).await;
    let pin = server.request(Method::POST, "/api/pins/main").json(&json!({ "store_path": app.store_path }));
    assert_eq!(pin.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    let place = server.place().clone();
    let before = place.list_objects().await;
    server.stop().await;

    place.sql("drop schema public cascade; create schema public").await;
    let unready = TestServer::launch(place.clone(), |_| {}).await;
    wait_for_reason(&unready, "StorageIdentityMismatch").await;
    unready.stop().await;
    let (summary, lines) = place.fsck(adopt()).await;
    let server = TestServer::at(place.clone(), |_| {}).await;
    assert!(summary.is_clean(), "{lines:?}");
    assert_eq!((summary.adopted, summary.pins), (3, 1));
    assert_eq!(place.fsck(adopt()).await.0.adopted, 0, "all are known now");

    let closures = place.rows::<(String,)>("select key from closures").await;
    assert_eq!(closures.len(), 2, "what a closure reaches is none by itself: {closures:?}");
    server.collect_and_wait("older-than=1h&force=true").await;
    assert_eq!(place.list_objects().await, before);
    let begun = server.begin(ADMIN, &begin_request(&other, &[&other, &base])).await;
    assert!(begun.pending_objects.is_empty(), "{begun:?}");
    server.complete(ADMIN, &begun.id).await;
    place.sql("update closures set updated_at = now() - interval '2 h'").await;
    server.collect_and_wait("older-than=1h&force=true").await;
    let left = place.list_objects().await;
    assert!(
        left.contains(&app.nar_key()) && !left.contains(&other.nar_key()),
        "the pin alone keeps: {left:?}"
    );
}

/// `nix copy` writes plain narinfos, NARs under the hash of their file, and no listings.
#[tokio::test]
async fn a_bucket_of_others_is_adopted_as_far_as_it_is_whole() {
    let server = TestServer::start().await;
    let place = server.place();
    let (base, torn) = (TestPath::new("base", &[]), TestPath::new("torn", &[]));
    let (top, above) = (TestPath::new("top", &[&base]), TestPath::new("above", &[&torn]));
    for path in [&base, &top, &above, &torn] {
        place.write_object(&path.key(), path.narinfo(&["elsewhere-1:AAAA"; 0]).as_bytes()).await;
    }
    for path in [&base, &top, &above] {
        place.write_object(&path.nar_key(), &path.stored()[&path.nar_key()]).await;
    }
    place.write_object("00000000000000000000000000000000.narinfo", b"nonsense").await;
    let (summary, lines) = place.fsck(adopt()).await;
    assert_eq!((summary.adopted, summary.incomplete), (3, 3), "{lines:?}");
    let text = lines.iter().map(Value::to_string).collect::<String>();
    assert!(text.contains("it is not a narinfo: "), "{text}");
    assert!(text.contains(&format!("{} is not in the bucket", torn.nar_key())), "{text}");
    let closures = place.rows::<(String,)>("select key from closures").await;
    assert_eq!(closures, [(top.key(),)]);
    server.collect_and_wait("older-than=1h&force=true").await;
    let left = place.list_objects().await;
    for key in [top.key(), top.nar_key(), base.key(), base.nar_key()] {
        assert!(left.contains(&key), "{key} is gone: {left:?}");
    }
    assert!(!left.contains(&above.key()), "what is not whole goes");
    assert_eq!(server.get(&format!("/{}", top.key())).await.status(), StatusCode::OK);
}

fn repair() -> Options {
    Options { repair: true, ..Options::default() }
}

/// What was lost is pushed again, whole, by a plain push; readers are not led to what is not there.
#[tokio::test]
async fn what_was_lost_is_given_up_and_comes_back_with_the_next_push() {
    let server = TestServer::start().await;
    let [base, other] = ["base", "other"].map(|name| TestPath::new(name, &[]));
    let app = TestPath::new("app", &[&base]);
    server.push(&[&app, &base]).await;
    server.push(&[&other]).await;
    server.pin("main", &app).await;
    let place = server.place();
    place.lose_object(&base.nar_key()).await;
    place.write_object(&other.nar_key(), b"not a NAR at all").await;

    let (found, _) = place.fsck(Options::default()).await;
    assert!(!found.is_clean() && found.repaired == 0, "{found:?}");
    let (summary, lines) = place.fsck(repair()).await;
    assert!(summary.is_clean(), "{lines:?}");
    assert_eq!((summary.missing, summary.other_size, summary.repaired), (1, 1, 2));
    assert_eq!((summary.withdrawn, summary.incomplete_closures), (3, 2), "{summary:?}");
    for path in [&base, &app, &other] {
        assert!(!place.in_bucket(&path.key()).await, "{} leads to what is lost", path.store_path);
    }
    assert!(place.fsck(Options::default()).await.0.is_clean());

    // A client asks first whether all of it is there: no longer.
    let refresh = json!({ "closures": [app.key(), other.key()] });
    let answer = server.request(Method::POST, "/api/closures/refresh").json(&refresh).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "present": [] }));
    // A collection in between takes nothing of what is still there.
    server.collect_and_wait("older-than=1h&force=true").await;
    let begun = server.begin(ADMIN, &begin_request(&app, &[&app, &base])).await;
    let mut missing: Vec<&String> = begun.pending_objects.keys().collect();
    missing.sort_unstable();
    let mut lost = [app.key(), base.key(), base.nar_key()];
    lost.sort_unstable();
    assert_eq!(missing, lost.iter().collect::<Vec<_>>());
    server.upload(ADMIN, &begun, &[&app, &base]).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    server.push(&[&other]).await;
    let answer = server.request(Method::POST, "/api/closures/refresh").json(&refresh).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["present"].as_array().unwrap().len(), 2);
    let deep = Options { deep: true, ..Options::default() };
    let (summary, lines) = place.fsck(deep).await;
    assert!(summary.is_clean() && summary.nars_read == 3, "{lines:?}");
    let pins = place.rows::<(String,)>("select name from pins").await;
    assert_eq!(pins, [("main".to_owned(),)]);
}

#[tokio::test]
async fn deep_finds_a_nar_of_the_right_length_that_is_damaged() {
    let server = TestServer::start().await;
    let path = TestPath::with_nar("path", vec![7; 5000], &[]);
    server.push(&[&path]).await;
    let place = server.place();
    let mut bytes = place.stored_bytes(&path.nar_key()).await;
    let last = bytes.len() - 6;
    bytes[last] ^= 1;
    place.write_object(&path.nar_key(), &bytes).await;
    assert!(place.fsck(Options::default()).await.0.is_clean(), "its size is right");
    let deep = Options { deep: true, ..Options::default() };
    let (summary, lines) = place.fsck(deep.clone()).await;
    assert_eq!((summary.damaged, summary.is_clean()), (1, false), "{lines:?}");
    let (summary, _) = place.fsck(Options { repair: true, ..deep }).await;
    assert!(summary.is_clean() && summary.withdrawn == 1, "{summary:?}");
    server.push(&[&path]).await;
    assert!(place.fsck(Options { deep: true, ..Options::default() }).await.0.is_clean());
}

#[tokio::test]
async fn what_no_push_committed_goes_once_it_is_old_and_a_push_may_come_between() {
    let server = TestServer::start().await;
    let [stray, young] = ["stray", "young"].map(|name| TestPath::new(name, &[]));
    let place = server.place();
    place.write_object(&stray.nar_key(), b"stray").await;
    let hour = Options { young: Duration::from_hours(1), ..repair() };
    let (summary, _) = place.fsck(hour).await;
    assert_eq!((summary.young, summary.deleted), (1, 0));
    // A push that is under way has a row for it.
    place.write_object(&young.nar_key(), b"young").await;
    let begun = server.begin(ADMIN, &begin_request(&young, &[&young])).await;
    let (summary, lines) = place.fsck(repair()).await;
    assert_eq!((summary.without_row, summary.deleted), (1, 1), "{lines:?}");
    assert!(!place.in_bucket(&stray.nar_key()).await && place.in_bucket(&young.nar_key()).await);
    assert_eq!(
        place.rows::<(i64,)>("select count(*) from objects where deleting_since is not null").await,
        [(0,)]
    );
    server.upload(ADMIN, &begun, &[&young]).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    assert!(place.fsck(Options::default()).await.0.is_clean());
}

/// The claim of a withdrawn root whose delete had no answer is taken over; its closure waits to be pushed again.
#[tokio::test]
async fn a_withdrawal_that_was_interrupted_is_finished_by_a_collection() {
    let server = TestServer::start().await;
    let path = TestPath::new("path", &[]);
    server.push(&[&path]).await;
    let place = server.place();
    place
        .sql(&format!(
            "update objects set live = false where key = '{}'; update closures set incomplete = true;
             update objects set deleting_since = now() - interval '1 h', deleting_by = 0 where key = '{}'",
            path.nar_key(),
            path.key()
        ))
        .await;
    server.collect_and_wait("older-than=1h&force=true").await;
    assert!(!place.in_bucket(&path.key()).await);
    let rows = "select live, deleting_since is null from objects where key like '%.narinfo'";
    assert_eq!(place.rows::<(bool, bool)>(rows).await, [(false, true)]);
    server.push(&[&path]).await;
    assert!(place.fsck(Options { deep: true, ..Options::default() }).await.0.is_clean());
}
