//! PostgreSQL. SQL stands only below this module, one file a table; every function takes a connection, so
//! that the logic above decides what is one transaction. Nothing here calls the bucket.
//!
//! Arrays that may have ten thousand keys are written `(select $1::text[])`: PostgreSQL then plans for a few, and looks each
//! of them up. Told how many there are, it reads a whole table of a million rows instead; and of a plain `= any($1)` that is no
//! index's condition it compares each row with each key, from the sixth time on.
//!
//! Rows of `objects` are locked in the order of their keys, everywhere: that is what keeps pushes of the same
//! closure and a collection from waiting for each other in a circle.

pub mod cache_identity;
pub mod closures;
pub mod expected;
pub mod fsck;
pub mod fsck_runs;
pub mod gc_runs;
pub mod marks;
pub mod migrations;
pub mod multipart_uploads;
pub mod narinfos;
pub mod objects;
pub mod pins;
pub mod reads;
pub mod repairs;
pub mod resign;
pub mod resign_runs;
pub mod roots;
pub mod uploads;
pub mod writers;

use std::time::Duration;

use niks3_protocol::server_config::MigrationMode;
use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, Executor as _, PgPool, PgTransaction};

/// How to reach a database.
#[derive(Debug, Clone)]
pub struct Database {
    /// Host, user, TLS and search path.
    pub options: PgConnectOptions,
    /// How many connections there are.
    pub connections: Connections,
    /// The schema of the tables, where it is not the database's own choice; the search path says so too.
    pub schema: Option<String>,
    /// Who runs migrations.
    pub migrations: MigrationMode,
}

/// How many connections a pool has.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// At most.
    pub max: u32,
    /// At least, however little there is to do.
    pub min: u32,
    /// How long a call waits for one. Pushes of one closure at once wait for each other's rows and hold theirs meanwhile:
    /// on a busy machine 64 of them were told after 5 s that the database was away.
    pub wait: Duration,
}

impl Connections {
    /// So many at most.
    pub fn at_most(max: u32) -> Self {
        Self { max, min: 0, wait: Duration::from_secs(15) }
    }
}

/// A pool that connects when it is first asked to, so that a server starts without its database.
pub fn pool(options: PgConnectOptions, connections: Connections) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections.max)
        .min_connections(connections.min)
        .acquire_timeout(connections.wait)
        .idle_timeout(Duration::from_mins(1))
        // Thousands of rows look expensive enough to be compiled first: a second for what takes a tenth of it.
        .after_connect(|conn, _| Box::pin(async move { conn.execute("set jit = off").await.map(drop) }))
        // What a hundred thousand keys were sent in would be kept until the connection is closed.
        .after_release(|conn, _| {
            conn.shrink_buffers();
            Box::pin(std::future::ready(Ok(true)))
        })
        .connect_lazy_with(options)
}

/// Opens as many connections as are to be kept: the pool itself sees to that once it has closed one that was idle for long.
pub async fn open_least(pool: &PgPool) -> sqlx::Result<()> {
    let all = (0..pool.options().get_min_connections()).map(|_| pool.acquire());
    futures::future::try_join_all(all).await.map(drop)
}

/// The target under which statements are logged, each with its time and without values.
pub const STATEMENTS: &str = "sqlx::query";

/// Opens a transaction, in a task of its own: sqlx forgets one whose caller goes away while it is opened, as
/// handlers do when their client hangs up. Its connection would go back with the transaction open, and what the next
/// caller writes by single statements would be acknowledged and never committed.
#[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
pub async fn begin(pool: &PgPool) -> sqlx::Result<PgTransaction<'static>> {
    let pool = pool.clone();
    let opened = tokio::spawn(async move { pool.begin().await }).await;
    opened.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?
}

/// Whether the same transaction may succeed when it is run again: a deadlock or a serialization failure.
pub fn is_retryable(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
    matches!(code.as_deref(), Some("40P01" | "40001"))
}

/// Whether a deletion failed because another row refers to what was to go.
pub fn is_referenced(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_foreign_key_violation)
}

/// Durations as PostgreSQL's intervals; anything past 290 years is that.
pub(crate) fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}

/// Whether the database answers.
pub async fn ping(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::query!("select 1 as \"one!\"").fetch_one(pool).await.map(drop)
}

/// How many connections the database has for the user that asks: as its configuration says, and the limits of user and
/// database, where there are any.
pub async fn connection_limit(pool: &PgPool) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        "select least( \
            current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int \
                - coalesce(current_setting('reserved_connections', true)::int, 0), \
            (select nullif(rolconnlimit, -1) from pg_roles where rolname = session_user), \
            (select nullif(datconnlimit, -1) from pg_database where datname = current_database()) \
        ) as \"limit!\""
    )
    .fetch_one(pool)
    .await
}
