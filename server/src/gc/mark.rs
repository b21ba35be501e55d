//! Marking: condemnations, from what one snapshot shows and a policy makes of it.
//!
//! A wrong condemnation, because a commit came between snapshot and write, harms nothing: a sweep acts only on
//! what was condemned before the snapshot of its own mark.

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::bits::BitSet;
use super::decide::Decision;
use super::graph::Graph;
use super::run::Progress;
use super::{GcError, signed};
use crate::app::App;
use crate::db;
use crate::db::marks::STATEMENT;

/// What one mark found.
pub(super) struct Mark {
    /// All objects of the snapshot.
    pub(super) graph: Graph,
    /// What the roots reach that stay.
    pub(super) kept: BitSet,
    /// That, and what the closures reach that this run dropped: they were committed in the snapshot.
    pub(super) protected: BitSet,
    /// Where not all that nothing reaches is to go: what may be condemned and claimed.
    scope: Option<BitSet>,
    /// The database's time in the snapshot.
    pub(super) taken_at: OffsetDateTime,
}

impl Mark {
    pub(super) fn new(graph: Graph, taken_at: OffsetDateTime, decision: Decision) -> Self {
        Self { graph, kept: decision.kept, protected: decision.protected, scope: None, taken_at }
    }

    /// Leaves everything else as it is.
    pub(super) fn within(self, scope: BitSet) -> Self {
        Self { scope: Some(scope), ..self }
    }

    /// Whether it may be condemned and claimed.
    pub(super) fn covers(&self, index: u32) -> bool {
        self.scope.as_ref().is_none_or(|scope| scope.contains(index))
    }
}

/// Condemns what nothing reaches, and lifts the condemnation of what is reached again.
pub(super) async fn condemn(
    app: &App,
    progress: &Progress,
    mark: &Mark,
    stop: &CancellationToken,
) -> Result<(), GcError> {
    let (condemn, uncondemn) = changes(mark);
    let mut conn = app.db.acquire().await?;
    for batch in uncondemn.chunks(STATEMENT) {
        db::marks::uncondemn(&mut conn, batch).await?;
    }
    for batch in condemn.chunks(STATEMENT) {
        if stop.is_cancelled() {
            return Err(GcError::Stopped);
        }
        let count = db::marks::condemn(&mut conn, batch, mark.taken_at).await?;
        progress.count(|stats| stats.objects_marked_for_deletion += signed(count));
    }
    Ok(())
}

/// Ids to condemn, and ids to uncondemn. What a dropped closure reached is in both, where it was condemned by
/// mistake: its grace begins now.
fn changes(mark: &Mark) -> (Vec<i64>, Vec<i64>) {
    let mut condemned = mark.graph.condemned.iter().map(|(index, _)| *index).peekable();
    let (mut condemn, mut uncondemn) = (Vec::new(), Vec::new());
    for index in mark.graph.indexes() {
        let is_condemned = condemned.next_if_eq(&index).is_some();
        if !mark.covers(index) {
            continue;
        }
        let (kept, protected) = (mark.kept.contains(index), mark.protected.contains(index));
        if is_condemned && protected {
            uncondemn.push(mark.graph.id(index));
        }
        if !kept && (!is_condemned || protected) {
            condemn.push(mark.graph.id(index));
        }
    }
    (condemn, uncondemn)
}
