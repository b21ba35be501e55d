//! Pushes to a cache that holds much else: they look their own keys up, however many those are.

use reqwest::StatusCode;

use crate::support::closure::{TestPath, begin_request};
use crate::support::{ADMIN, TestServer};

/// Objects of other pushes.
const OTHERS: i64 = 100_000;
/// Paths of the push. With three objects each PostgreSQL would take the whole table for cheaper, were it told how many.
const PATHS: usize = 400;

impl TestServer {
    /// Rows of `objects` that were read by going through the whole table.
    async fn rows_scanned(&self) -> i64 {
        // What a connection did is told a second later.
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        let query = "select seq_tup_read from pg_stat_user_tables where relname = 'objects'";
        self.place().rows::<(i64,)>(query).await[0].0
    }
}

#[tokio::test]
async fn no_call_of_a_push_reads_the_whole_table() {
    let server = TestServer::start().await;
    let others = format!(
        "insert into objects (key, live) select md5(i::text) || '.narinfo', true from generate_series(1, {OTHERS}) i;
         analyze objects"
    );
    server.place().sql(&others).await;
    let paths: Vec<TestPath> =
        (0..PATHS).map(|number| TestPath::new(&format!("path-{number}"), &[])).collect();
    let root = TestPath::new("root", &paths.iter().collect::<Vec<_>>());
    let closure: Vec<&TestPath> = std::iter::once(&root).chain(&paths).collect();
    let before = server.rows_scanned().await;

    server.push(&closure).await;
    let again = server.begin(ADMIN, &begin_request(&root, &closure)).await;
    assert!(again.pending_objects.is_empty(), "all of it is there: {again:?}");
    assert_eq!(server.complete(ADMIN, &again.id).await.status(), StatusCode::NO_CONTENT);

    let scanned = server.rows_scanned().await - before;
    assert!(scanned < OTHERS, "{scanned} rows were read in scans of the whole table");
}
