//! Marking: one repeatable-read snapshot, reachability in memory, then condemnations.
//!
//! A wrong condemnation, because a commit came between snapshot and write, harms nothing: a sweep acts only on
//! what was condemned before the snapshot of its own mark.

use futures::TryStreamExt as _;
use time::OffsetDateTime;

use super::GcError;
use super::graph::{BitSet, Graph};
use super::run::{Progress, signed};
use crate::app::App;
use crate::db;

/// Rows changed in one transaction: each holds its locks for some ten milliseconds.
const BATCH: usize = 2000;

/// What one mark found.
pub(super) struct Mark {
    /// All objects of the snapshot.
    pub(super) graph: Graph,
    /// What the roots reach.
    pub(super) reached: BitSet,
    /// The database's time in the snapshot.
    pub(super) taken_at: OffsetDateTime,
}

/// Marks, condemns what nothing reaches, and lifts the condemnation of what is reached again.
pub(super) async fn mark(app: &App, progress: &Progress) -> Result<Mark, GcError> {
    let mark = read(app).await?;
    let (condemn, uncondemn) = changes(&mark);
    let mut conn = app.db.acquire().await?;
    for batch in uncondemn.chunks(BATCH) {
        db::marks::uncondemn(&mut conn, batch).await?;
    }
    for batch in condemn.chunks(BATCH) {
        let count = db::marks::condemn(&mut conn, batch).await?;
        progress.count(|stats| stats.objects_marked_for_deletion += signed(count));
    }
    Ok(mark)
}

/// Ids to condemn, and ids to uncondemn.
fn changes(mark: &Mark) -> (Vec<i64>, Vec<i64>) {
    let mut condemned = mark.graph.condemned.iter().map(|(index, _)| *index).peekable();
    let (mut condemn, mut uncondemn) = (Vec::new(), Vec::new());
    for index in 0..u32::try_from(mark.graph.len()).unwrap_or(u32::MAX) {
        let is_condemned = condemned.next_if_eq(&index).is_some();
        match (mark.reached.contains(index), is_condemned) {
            (false, false) => condemn.push(mark.graph.id(index)),
            (true, true) => uncondemn.push(mark.graph.id(index)),
            _ => {}
        }
    }
    (condemn, uncondemn)
}

async fn read(app: &App) -> Result<Mark, GcError> {
    let mut transaction = app.db.begin().await?;
    let taken_at = db::marks::begin_snapshot(&mut transaction).await?;
    let mut graph = Graph::default();
    let mut rows = db::marks::stream_objects(&mut transaction);
    while let Some(row) = rows.try_next().await? {
        let index = graph.push(row.id, &row.refs, row.narinfo)?;
        if let Some(since) = row.condemned_at.filter(|_| !row.deleting) {
            graph.condemned.push((index, since));
        }
    }
    drop(rows);
    let roots = db::marks::list_roots(&mut transaction).await?;
    transaction.commit().await?;
    let (graph, reached) = tokio::task::spawn_blocking(move || {
        graph.link();
        let reached = graph.reachable(roots.iter().filter_map(|id| graph.index_of(*id)));
        (graph, reached)
    })
    .await
    .map_err(|error| GcError::Graph(error.to_string()))?;
    Ok(Mark { graph, reached, taken_at })
}
