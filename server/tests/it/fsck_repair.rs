//! Repairs that are large, are interrupted, or meet pushes.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use niks3_server::fsck::{Options, Summary};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};
use tokio::task::JoinHandle;

use crate::support::closure::TestPath;
use crate::support::{Place, TestServer};

fn repair() -> Options {
    Options { repair: true, ..Options::default() }
}

impl Place {
    /// A transaction that has these objects locked until it is dropped.
    async fn hold(&self, keys: &str) -> PgConnection {
        let mut connection = self.database().connect().await.unwrap();
        let lock = format!("begin; select from objects where key in ({keys}) for update");
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut connection).await.unwrap();
        connection
    }

    /// A repair that has given up what was lost, and waits for what somebody has locked.
    async fn repair_in_between(&self) -> JoinHandle<(Summary, Vec<Value>)> {
        let place = self.clone();
        let repair = tokio::spawn(async move { place.fsck(repair()).await });
        let given_up = "select count(*) from given_up";
        for _ in 0..400 {
            let (noted, waiting) = (self.count(given_up).await, self.waiting().await);
            if noted > 0 && waiting > 0 {
                return repair;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("no repair waits; {} are given up", self.count(given_up).await);
    }

    async fn count(&self, query: &str) -> i64 {
        self.rows::<(i64,)>(query).await[0].0
    }
}

/// Whether a push of it would be told that all of it is there.
async fn is_present(server: &TestServer, path: &TestPath) -> bool {
    let refresh = json!({ "closures": [path.key()] });
    let answer = server.request(Method::POST, "/api/closures/refresh").json(&refresh).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json::<Value>().await.unwrap()["present"] == json!([path.key()])
}

/// Three paths, each on top of the one before, pushed as one closure; the NAR of the lowest is lost.
async fn torn() -> (TestServer, [TestPath; 3]) {
    let server = TestServer::start().await;
    let base = TestPath::new("base", &[]);
    let middle = TestPath::new("middle", &[&base]);
    let top = TestPath::new("top", &[&middle]);
    server.push(&[&top, &middle, &base]).await;
    server.place().lose_object(&base.nar_key()).await;
    (server, [base, middle, top])
}

/// Pushes wait for a repair as long as for one of its transactions at most.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_are_given_up_and_withdrawn_in_transactions_of_some_hundred_rows() {
    let server = TestServer::start().await;
    let place = server.place();
    // Each narinfo refers to four objects that are lost, and to a path below it; a third are closures.
    place
        .sql(
            "insert into objects (id, key, live, refs) overriding system value
             select 5 * p + part, case when part = 1 then digits || '.narinfo' else 'nar/' || part || substr(digits || digits, 1, 51) || '.nar.zst' end,
                 true, case when part = 1 then array[5 * p + 2, 5 * p + 3, 5 * p + 4, 5 * p + 5, 5 * (p / 3) + 1] else '{}' end
             from (select p, translate(md5(p::text), 'e', 'z') as digits from generate_series(0, 699) as p) as path,
                 generate_series(1, 5) as part;
             insert into closures (key, pushed_by) select key, 'test' from objects where id % 15 = 1;
             create table changed (transaction xid8, rows bigint);
             create function note_changed() returns trigger language plpgsql as $$
                 begin insert into changed select pg_current_xact_id(), count(*) from news; return null; end $$;
             create trigger note_changed after update on objects referencing new table as news
                 for each statement execute function note_changed()",
        )
        .await;
    let narinfos = place.rows::<(String,)>("select key from objects where key like '%.narinfo'").await;
    futures::stream::iter(narinfos)
        .map(|(key,)| async move {
            place.write_object(&key, b"").await;
            Ok::<_, ()>(())
        })
        .buffer_unordered(16)
        .try_collect::<()>()
        .await
        .unwrap();

    let (summary, lines) = place.fsck(repair()).await;
    assert!(summary.is_clean(), "{:?}", lines.last());
    assert_eq!((summary.missing, summary.repaired), (2800, 2800));
    assert_eq!((summary.withdrawn, summary.incomplete_closures), (700, 234));
    assert_eq!(place.count("select count(*) from objects where live or deleting_since is not null").await, 0);
    assert_eq!(place.count("select count(*) from given_up").await, 0);
    assert!(place.list_objects().await.is_empty(), "nothing leads to what is lost");
    // Statements of one transaction change the same rows: expected, then claimed.
    let most = "select max(rows) from changed";
    let transactions = "select count(distinct transaction) from changed where rows > 0";
    assert!(place.count(most).await <= 200, "{}", place.count(most).await);
    assert!(
        place.count(transactions).await >= 2800 / 200 + 2 * 700 / 200,
        "{}",
        place.count(transactions).await
    );
    assert!(place.fsck(Options::default()).await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_was_killed_is_found_and_gone_on_with() {
    let (server, [base, middle, top]) = torn().await;
    let place = server.place();
    let held = place.hold(&format!("'{}'", base.key())).await;
    let repairing = place.repair_in_between().await;
    repairing.abort();
    assert!(repairing.await.unwrap_err().is_cancelled());
    drop(held);
    assert!(
        place.in_bucket(&top.key()).await && is_present(&server, &top).await,
        "it was killed before that"
    );

    let (summary, lines) = place.fsck(Options::default()).await;
    assert_eq!((summary.missing, summary.incomplete, summary.is_clean()), (0, 1, false), "{lines:?}");
    assert!(lines[0].to_string().contains("a repair was interrupted"), "{lines:?}");
    let (summary, lines) = place.fsck(repair()).await;
    assert!(summary.is_clean(), "{lines:?}");
    assert_eq!((summary.withdrawn, summary.incomplete_closures), (3, 1));
    assert!(!is_present(&server, &top).await);
    assert!(place.fsck(Options::default()).await.0.is_clean());
    server.push(&[&top, &middle, &base]).await;
    assert!(is_present(&server, &top).await);
    assert!(place.fsck(Options { deep: true, ..Options::default() }).await.0.is_clean());
}

/// A collection that finishes what the repair left does not hide from the next one what it has still to withdraw.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_repair_had_withdrawn_is_still_found_after_a_collection() {
    let (server, [base, middle, top]) = torn().await;
    let place = server.place();
    place
        .sql(&format!(
            "update objects set live = false where key = '{0}';
             update objects set deleting_since = now() - interval '1 h', deleting_by = 0 where key = '{1}';
             insert into given_up select id from objects where key in ('{0}', '{1}')",
            base.nar_key(),
            base.key()
        ))
        .await;
    server.collect_and_wait("older-than=1h&force=true").await;
    assert!(!place.in_bucket(&base.key()).await && place.in_bucket(&middle.key()).await);
    let (summary, lines) = place.fsck(repair()).await;
    assert!(summary.is_clean(), "{lines:?}");
    assert_eq!((summary.withdrawn, summary.incomplete_closures), (2, 1));
    assert!(!place.in_bucket(&middle.key()).await && !is_present(&server, &top).await);
    server.push(&[&top, &middle, &base]).await;
    assert!(place.fsck(Options { deep: true, ..Options::default() }).await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_push_brings_back_meanwhile_is_not_withdrawn() {
    let (server, [base, middle, top]) = torn().await;
    let place = server.place();
    let held = place.hold(&format!("'{}'", base.key())).await;
    let repairing = place.repair_in_between().await;
    server.push(&[&top, &middle, &base]).await;
    drop(held);
    let (summary, lines) = repairing.await.unwrap();
    assert!(summary.is_clean(), "{lines:?}");
    assert_eq!((summary.repaired, summary.withdrawn, summary.incomplete_closures), (1, 0, 0));
    assert_eq!(place.count("select count(*) from given_up").await, 0);
    assert!(is_present(&server, &top).await && place.in_bucket(&top.key()).await);
    assert!(place.fsck(Options { deep: true, ..Options::default() }).await.0.is_clean());
}

/// A commit that began before and ends afterwards may have taken what was lost for there.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_under_way_is_waited_for() {
    let (server, [base, ..]) = torn().await;
    let place = server.place();
    let other = TestPath::new("other", &[&base]);
    place
        .sql(
            "insert into uploads (owner, origin, roots, keys, plan, addresses_until)
             values ('test', '{}', '{}', '{}', '', now())",
        )
        .await;
    let mut committing = place.database().connect().await.unwrap();
    // As a commit does: it has its upload locked, and what it makes live is seen at its end.
    sqlx::raw_sql(AssertSqlSafe(format!(
        "begin; select from uploads for update;
         insert into objects (key, live, refs) select '{}', true, array_agg(id) from objects where key = '{}';
         insert into closures (key, pushed_by) values ('{0}', 'test')",
        other.key(),
        base.key()
    )))
    .execute(&mut committing)
    .await
    .unwrap();
    let repairing = place.repair_in_between().await;
    place.write_object(&other.key(), b"").await;
    sqlx::raw_sql("delete from uploads; commit").execute(&mut committing).await.unwrap();
    committing.close().await.unwrap();
    let (summary, lines) = repairing.await.unwrap();
    assert_eq!((summary.withdrawn, summary.incomplete_closures), (4, 2), "{lines:?}");
    assert!(!place.in_bucket(&other.key()).await && !is_present(&server, &other).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narinfo_that_is_being_written_is_left_to_the_next_repair() {
    let (server, [.., top]) = torn().await;
    let place = server.place();
    place
        .sql(&format!("update objects set settles_at = now() + interval '1 h' where key = '{}'", top.key()))
        .await;
    let (summary, lines) = place.fsck(repair()).await;
    assert_eq!((summary.withdrawn, summary.incomplete, summary.is_clean()), (2, 1, false), "{lines:?}");
    assert!(!is_present(&server, &top).await && place.in_bucket(&top.key()).await);
    place.sql("update objects set settles_at = now()").await;
    let (summary, lines) = place.fsck(repair()).await;
    assert!(summary.is_clean() && summary.withdrawn == 1, "{lines:?}");
    assert!(!place.in_bucket(&top.key()).await);
}
