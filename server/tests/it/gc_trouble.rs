//! Collections that are ended, come twice, meet pushes, or a bucket that will not delete.

use aws_sdk_s3::types::{ObjectLockLegalHold, ObjectLockLegalHoldStatus};
use niks3_protocol::api::gc::{GcReason, GcState};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio::time::{Duration, sleep};

use crate::support::closure::{TestPath, begin_request};
use crate::support::inspect::s3;
use crate::support::{ADMIN, Place, TestServer};

const OLD: &str = "update closures set updated_at = now() - interval '2 days'";
const CLAIMED: &str = "select key from objects where deleting_since is not null";

/// Somebody holds a row's lock, so the run waits in the middle of its mark until the test lets it go on.
#[tokio::test]
async fn a_run_at_work_refuses_others_and_ends_when_asked_to() {
    let server = TestServer::start().await;
    let place = server.place();
    let paths = ["one", "two"].map(|name| TestPath::new(name, &[]));
    for path in &paths {
        server.push(&[path]).await;
    }
    place.sql(OLD).await;
    let mut holder = place.database().connect().await.unwrap();
    let lock = "begin; select from objects for update";
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut holder).await.unwrap();
    let started = server.start_gc("older-than=1h&force=true").await;
    while place.waiting().await == 0 {
        sleep(Duration::from_millis(20)).await;
    }

    let hash = paths[0].store_path.hash();
    for (method, call) in [
        (Method::DELETE, "/api/closures?older-than=3h".to_owned()),
        (Method::POST, format!("/api/paths/{}/delete", hash.as_str())),
    ] {
        let answer = server.request(method, &call).json(&json!({})).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CONFLICT, "{call}");
        let conflict: Value = answer.json().await.unwrap();
        assert_eq!(conflict["active_task"]["id"], json!(started.id), "{call}");
        assert_eq!(conflict["active_task"]["params"]["older_than"], "1h", "{call}");
    }
    let abort = server.request(Method::POST, "/api/gc/abort").send().await.unwrap();
    assert_eq!(abort.status(), StatusCode::ACCEPTED);
    // Its next sign of life tells the run so.
    let [(asked,)] = place.rows::<(String,)>("select clock_timestamp()::text").await.try_into().unwrap();
    let told = format!("select id from gc_runs where updated_at > '{asked}'");
    while place.rows::<(i64,)>(&told).await.is_empty() {
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_millis(500)).await;
    holder.close().await.unwrap();
    let run = server.end_of(&started).await;
    assert_eq!((run.state, run.reason), (GcState::Failed, Some(GcReason::Aborted)), "{run:?}");
    // What it had not deleted stays for the next run.
    assert_eq!(run.stats.objects_deleted_after_grace_period, 0, "{run:?}");
    assert_eq!(place.rows::<(String,)>(CLAIMED).await, [] as [(String,); 0]);
    assert_eq!(place.list_objects().await.len(), 6);
    let run = server.collect("older-than=1h&force=true").await;
    assert_eq!((run.state, run.stats.objects_deleted_after_grace_period), (GcState::Succeeded, 6));
    assert_eq!(place.list_objects().await, [""; 0]);
}

/// What has begun to wait in its grace period, and is to be gone.
const RIPE: &str = "update objects set condemned_at = condemned_at - interval '2 hours'";
const COLLECT: &str = "older-than=1h&deletion-grace=1h";

fn of(path: &TestPath) -> String {
    format!("key in ('{}', '{}', '{}')", path.key(), path.nar_key(), path.listing_key())
}

/// Rule 5: one that is not ripe keeps what it refers to, narinfos too.
#[tokio::test]
async fn what_a_narinfo_refers_to_stays_as_long_as_the_narinfo() {
    let server = TestServer::start().await;
    let dependency = TestPath::new("dependency", &[]);
    let dependent = TestPath::new("dependent", &[&dependency]);
    server.push(&[&dependent, &dependency]).await;
    server.place().sql(OLD).await;
    server.collect(COLLECT).await;
    let since = "select count(*), count(distinct condemned_at) from objects where condemned_at is not null";
    assert_eq!(server.place().rows::<(i64, i64)>(since).await, [(6, 1)], "all are ripe at one time");

    server.place().sql(&format!("{RIPE} where {}", of(&dependency))).await;
    let run = server.collect(COLLECT).await;
    assert_eq!((run.state, run.stats.objects_deleted_after_grace_period), (GcState::Succeeded, 0), "{run:?}");
    assert!(server.has(&dependent).await && server.has(&dependency).await);
    server.place().sql(&format!("{RIPE} where {}", of(&dependent))).await;
    let run = server.collect(COLLECT).await;
    assert_eq!((run.state, run.stats.objects_deleted_after_grace_period), (GcState::Succeeded, 6), "{run:?}");
    assert_eq!(server.place().list_objects().await, [""; 0]);
}

/// Rule 5: between mark and claim a push lifts a narinfo's condemnation, and not that of what it refers to: another build of
/// the path, which refers to something else.
#[tokio::test]
async fn what_a_narinfo_refers_to_stays_where_a_push_lifts_the_narinfo() {
    let server = TestServer::start().await;
    let [first, second] = ["first", "second"].map(|name| TestPath::new(name, &[]));
    let path = TestPath::new("path", &[&first]);
    let rebuilt = TestPath::with_nar("path", b"built again".to_vec(), &[&second]);
    server.push(&[&path, &first]).await;
    let place = server.place();
    place.sql(OLD).await;
    server.collect(COLLECT).await;
    place.sql(RIPE).await;

    // What the begin of that push does, and the claim waits for.
    let mut holder = place.database().connect().await.unwrap();
    let lift = format!("begin; update objects set condemned_at = null where key = '{}'", path.key());
    sqlx::raw_sql(AssertSqlSafe(lift)).execute(&mut holder).await.unwrap();
    let started = server.start_gc(COLLECT).await;
    while place.waiting().await == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    sqlx::raw_sql(AssertSqlSafe("commit")).execute(&mut holder).await.unwrap();
    let run = server.end_of(&started).await;
    assert_eq!((run.state, run.stats.objects_deleted_after_grace_period), (GcState::Succeeded, 0), "{run:?}");

    // That push adopts the narinfo, which leads to the first.
    server.push(&[&rebuilt, &second]).await;
    let narinfo = server.get(&format!("/{}", path.key())).await.text().await.unwrap();
    assert!(narinfo.contains(first.store_path.as_str().rsplit('/').next().unwrap()), "{narinfo}");
    assert!(server.has(&path).await && server.has(&first).await);
}

/// Rule 8, where no collection comes: whoever pushes such a path does not wait for the next one.
#[tokio::test]
async fn a_claim_without_an_answer_is_taken_over_where_no_collection_runs() {
    let server = TestServer::with(|parts| parts.bucket.request_timeout = Duration::from_secs(1)).await;
    let path = TestPath::new("claimed", &[]);
    server.push(&[&path]).await;
    let place = server.place();
    let claim = "delete from closures; update objects set condemned_at = now(), deleting_by = 7, deleting_since = now()";
    place.sql(claim).await;
    // T has not passed.
    sleep(Duration::from_secs(3)).await;
    assert_eq!(place.rows::<(i64,)>("select deleting_by from objects").await, [(7,); 3]);
    place.sql("update objects set deleting_since = now() - interval '11 seconds'").await;
    let begun = server.begin(ADMIN, &begin_request(&path, &[&path])).await;
    assert_eq!(place.list_objects().await, [""; 0]);
    server.upload(ADMIN, &begun, &[&path]).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    assert!(server.has(&path).await);
}

/// A legal hold: the bucket says that it will not.
#[tokio::test]
async fn what_the_bucket_refuses_to_delete_keeps_its_row_and_the_run_says_how_many_and_why() {
    let place = Place::create().await;
    let create = s3().create_bucket().bucket(place.bucket()).object_lock_enabled_for_bucket(true);
    create.send().await.unwrap();
    let server = TestServer::at(place, |_| {}).await;
    let [held, free] = ["held", "free"].map(|name| TestPath::new(name, &[]));
    for path in [&held, &free] {
        server.push(&[path]).await;
    }
    let hold = async |status: ObjectLockLegalHoldStatus| {
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let put = s3().put_object_legal_hold().bucket(server.place().bucket()).key(held.nar_key());
        put.legal_hold(hold).send().await.unwrap();
    };
    hold(ObjectLockLegalHoldStatus::On).await;
    server.place().sql(OLD).await;
    let run = server.collect("older-than=1h&force=true").await;
    assert_eq!(run.state, GcState::Succeeded, "{run:?}");
    assert_eq!((run.stats.objects_deleted_after_grace_period, run.stats.objects_failed_to_delete), (5, 1));
    let why = run.warnings.iter().find(|warning| warning.contains(&held.nar_key()));
    assert!(
        why.is_some_and(|why| why.starts_with("1 object was not deleted, such as ")),
        "{:?}",
        run.warnings
    );
    let rows = "select key, live, condemned_at is not null, deleting_since is null from objects";
    let expected = [(held.nar_key(), false, true, true)];
    assert_eq!(server.place().rows::<(String, bool, bool, bool)>(rows).await, expected);

    // A push sends it anew; once nothing holds it, it goes.
    hold(ObjectLockLegalHoldStatus::Off).await;
    let run = server.collect("older-than=1h&force=true").await;
    assert_eq!((run.stats.objects_deleted_after_grace_period, run.stats.objects_failed_to_delete), (1, 0));
    assert_eq!(server.place().list_objects().await, [""; 0]);
}

/// What is cleaned up besides objects goes in batches, none of which holds its locks for long: all of them are gone through.
#[tokio::test]
async fn what_is_cleaned_up_in_batches_goes_whole() {
    let server = TestServer::start().await;
    let place = server.place();
    place
        .sql(
            "insert into uploads (owner, origin, roots, keys, plan, started_at, addresses_until)
             select 'gone', '{}', '{}', '{}', '', now() - interval '9 days', now() - interval '9 days'
             from generate_series(1, 50);
             insert into reads (key, read_on)
             select translate(md5(n::text), 'e', 'z') || '.narinfo', '2000-01-01' from generate_series(1, 500) as n;
             insert into objects (key, live) select translate(md5('c' || n), 'e', 'z') || '.narinfo', true
             from generate_series(1, 500) as n;
             insert into closures (key, pushed_by, updated_at)
             select key, 'gone', now() - interval '9 days' from objects;
             insert into reads (key, read_on) select key, '2000-01-01' from objects where key > 'm'",
        )
        .await;
    let run = server.collect("older-than=1h").await;
    assert_eq!(run.stats.failed_uploads_deleted, 50, "{run:?}");
    assert_eq!(run.stats.old_closures_deleted, 500, "{run:?}");
    let left =
        place.rows::<(i64,)>("select count(*) from uploads union all select count(*) from closures").await;
    assert_eq!(left, [(0,), (0,)]);
    let reads = place.rows::<(i64, i64)>(
        "select count(*), count(*) filter (where key in (select key from objects)) from reads",
    );
    let reads = reads.await;
    assert_eq!(reads[0].0, reads[0].1, "reads of what is gone are forgotten, and no others");
    assert!(reads[0].0 > 0);
}
