//! What one repeatable-read snapshot shows of a cache: the graph, and everything that may be a root.

use std::time::Duration;

use niks3_protocol::api::gc::GcParams;
use sqlx::PgConnection;
use time::{Date, OffsetDateTime};
use tokio_util::sync::CancellationToken;

use super::graph::Graph;
use super::pace::Pace;
use super::{GcError, blocking};
use crate::app::App;
use crate::db;
use crate::db::roots::{ClosureRow, PinRow, RevisionRow};

/// One snapshot.
pub(super) struct Snapshot {
    /// All objects.
    pub(super) graph: Graph,
    /// The database's time in the snapshot.
    pub(super) taken_at: OffsetDateTime,
    /// All closures.
    pub(super) closures: Vec<ClosureRow>,
    /// Open uploads, each with each of its keys.
    pub(super) uploads: Vec<(i64, i64)>,
    /// Uploads that a dry run would expire.
    pub(super) uploads_expired: i64,
    /// Narinfos read lately enough to matter, by id.
    pub(super) reads: Vec<(i64, Date)>,
    /// All pins, by name.
    pub(super) pins: Vec<PinRow>,
    /// What pins point to and pointed to, by name, the newest first.
    pub(super) revisions: Vec<RevisionRow>,
}

/// Reads a cache as it is now; `waiting` requests wait for that.
pub(super) async fn read(
    app: &App,
    waiting: i64,
    params: &GcParams,
    stop: &CancellationToken,
) -> Result<Snapshot, GcError> {
    let mut transaction = db::begin(&app.db).await?;
    let conn: &mut PgConnection = &mut transaction;
    let taken_at = db::marks::begin_snapshot(conn).await?;
    let mut graph = read_objects(conn, Pace::new(&app.metrics.traffic, waiting), stop).await?;
    let closures = db::roots::list_closures(conn).await?;
    let (uploads, uploads_expired) = if params.dry_run {
        let age = params.failed_uploads_older_than.0.max(app.upload_lifetime());
        let settle = app.bucket.config().settle_time();
        let uploads = db::roots::list_upload_keys_without_expired(conn, age, settle).await?;
        (uploads, db::roots::count_expired(conn, age, settle).await?)
    } else {
        (db::roots::list_upload_keys(conn).await?, 0)
    };
    let reads = match params.keep_if_read_within {
        Some(within) => db::roots::list_reads(conn, day_before(taken_at, within.0)).await?,
        None => Vec::new(),
    };
    let pins = db::roots::list_pins(conn).await?;
    let revisions = db::roots::list_revisions(conn).await?;
    transaction.commit().await?;
    let graph = blocking(move || {
        graph.link();
        graph
    })
    .await?;
    Ok(Snapshot { graph, taken_at, closures, uploads, uploads_expired, reads, pins, revisions })
}

/// All objects, in batches.
async fn read_objects(
    conn: &mut PgConnection,
    mut pace: Pace<'_>,
    stop: &CancellationToken,
) -> Result<Graph, GcError> {
    let (mut graph, mut last) = (Graph::default(), i64::MIN);
    loop {
        let rows = db::marks::list_objects(conn, last, pace.batch()).await?;
        for row in &rows {
            graph.push(row)?;
        }
        match rows.last() {
            Some(row) => last = row.id,
            None => return Ok(graph),
        }
        if stop.is_cancelled() {
            return Err(GcError::Stopped);
        }
        pace.give_way().await;
    }
}

/// The day that lies so long back; the first there is where that is before all days.
fn day_before(now: OffsetDateTime, age: Duration) -> Date {
    before(now, age).map_or(Date::MIN, OffsetDateTime::date)
}

/// The time that lies so long back, where there is one.
pub(super) fn before(now: OffsetDateTime, age: Duration) -> Option<OffsetDateTime> {
    now.checked_sub(age.try_into().ok()?)
}
