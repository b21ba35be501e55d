//! Sweeping: claim, delete, settle. No transaction is open while the bucket deletes.
//!
//! What refers to something goes first, and what it refers to only after its deletion is confirmed: a reader never
//! meets a narinfo without its NAR and its references, and a push that brings a narinfo back has what it leads to.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bits::BitSet;
use super::mark::Mark;
use super::run::Progress;
use super::{GcError, blocking, order, signed};
use crate::app::App;
use crate::bucket::{Deletion, MAX_DELETE_KEYS};
use crate::db::marks::{Claimed, STATEMENT};
use crate::{db, writing};

/// Batches under way at a time.
const CONCURRENT_BATCHES: usize = 4;

/// Finishes what dead or unanswered sweepers left, once their deletes have happened or never will.
pub(super) async fn take_over(
    app: &App,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<(), GcError> {
    let settle = app.bucket.config().settle_time();
    let limit = i64::try_from(STATEMENT).unwrap_or(i64::MAX);
    loop {
        if stop.is_cancelled() {
            return Err(GcError::Stopped);
        }
        let asked_at = Instant::now();
        let mut conn = app.db.acquire().await?;
        let claimed = db::marks::take_over(&mut conn, progress.id, settle, limit).await?;
        drop(conn);
        if claimed.is_empty() {
            return Ok(());
        }
        tracing::info!(run = progress.id, count = claimed.len(), "taking over unfinished deletions");
        delete(app, progress, claimed, asked_at).await?;
    }
}

/// Deletes what this mark did not reach and what was condemned, without a break, since before its snapshot and
/// for longer than `grace`.
pub(super) async fn sweep(
    app: &App,
    progress: &Progress,
    mark: Mark,
    grace: Duration,
    stop: &CancellationToken,
) -> Result<(), GcError> {
    let (mark, rounds, mut held) = blocking(move || {
        let (rounds, held) = plan(&mark, grace);
        (mark, rounds, held)
    })
    .await?;
    for mut round in rounds {
        round.retain(|index| !held.contains(*index));
        let mut gone = BitSet::default();
        for id in delete_all(app, progress, &mark, &round, stop).await? {
            if let Some(index) = mark.graph.index_of(id) {
                gone.insert(index);
            }
        }
        // Lifted, being written, refused or without an answer: what it leads to stays with it.
        for index in round.into_iter().filter(|index| !gone.contains(*index)) {
            mark.graph.extend(&mut held, index);
        }
    }
    Ok(())
}

/// What may be claimed, in the order in which it goes, and what may not because something leads there that stays.
fn plan(mark: &Mark, grace: Duration) -> (Vec<Vec<u32>>, BitSet) {
    let Mark { graph, protected, taken_at, .. } = mark;
    let ripe = |since: &OffsetDateTime| *taken_at - *since >= grace;
    let condemned = graph.condemned.iter();
    let goes: Vec<u32> = condemned
        .filter(|(index, since)| mark.covers(*index) && !protected.contains(*index) && ripe(since))
        .map(|(index, _)| *index)
        .collect();
    let mut going = goes.iter().copied().peekable();
    let stays =
        graph.indexes().filter(|index| going.next_if_eq(index).is_none() && !protected.contains(*index));
    let held = graph.reachable(stays);
    (order::rounds(graph, &goes), held)
}

/// Claims and deletes in batches; gives the ids the bucket confirmed.
async fn delete_all(
    app: &App,
    progress: &Progress,
    mark: &Mark,
    indexes: &[u32],
    stop: &CancellationToken,
) -> Result<Vec<i64>, GcError> {
    // A round is waited for: few objects go side by side too.
    let size = indexes.len().div_ceil(CONCURRENT_BATCHES).clamp(STATEMENT, MAX_DELETE_KEYS);
    futures::stream::iter(indexes.chunks(size).map(<[u32]>::to_vec).collect::<Vec<_>>())
        .map(|batch| claim_and_delete(app, progress, mark, batch, stop))
        .buffer_unordered(CONCURRENT_BATCHES)
        .try_concat()
        .await
}

async fn claim_and_delete(
    app: &App,
    progress: &Progress,
    mark: &Mark,
    batch: Vec<u32>,
    stop: &CancellationToken,
) -> Result<Vec<i64>, GcError> {
    if stop.is_cancelled() {
        return Err(GcError::Stopped);
    }
    let condemned = &mark.graph.condemned;
    let since = batch.iter().filter_map(|index| {
        let place = condemned.binary_search_by_key(index, |(condemned, _)| *condemned).ok()?;
        Some((mark.graph.id(*index), condemned[place].1))
    });
    let (ids, since): (Vec<i64>, Vec<OffsetDateTime>) = since.unzip();
    let asked_at = Instant::now();
    let mut conn = app.db.acquire().await?;
    let mut claimed = Vec::with_capacity(ids.len());
    for (ids, since) in ids.chunks(STATEMENT).zip(since.chunks(STATEMENT)) {
        claimed.extend(db::marks::claim(&mut conn, progress.id, ids, since).await?);
    }
    drop(conn);
    delete(app, progress, claimed, asked_at).await
}

/// Deletes what was claimed and settles each key by what the bucket said of it; gives the ids it confirmed.
/// A key without an answer stays claimed until T has passed. T counts from the claim, so after a claim that
/// took long nothing is sent: another sweeper might take it over while that is still under way.
async fn delete(
    app: &App,
    progress: &Progress,
    claimed: Vec<Claimed>,
    asked_at: Instant,
) -> Result<Vec<i64>, GcError> {
    if claimed.is_empty() {
        return Ok(Vec::new());
    }
    if asked_at.elapsed() > app.bucket.config().request_timeout {
        tracing::warn!(
            run = progress.id,
            count = claimed.len(),
            "a claim took too long and is left to the next run"
        );
        progress.count(|stats| {
            stats.objects_failed_to_delete += signed(claimed.len());
        });
        return Ok(Vec::new());
    }
    let outcomes = writing::delete(app, &claimed).await;
    let (mut confirmed, mut refused, mut bytes, mut failed) = (Vec::new(), Vec::new(), 0, 0);
    for (object, outcome) in claimed.iter().zip(&outcomes) {
        match outcome {
            Deletion::Confirmed => {
                confirmed.push(object.id);
                bytes += object.stored_size.unwrap_or(0);
            }
            Deletion::Refused(_) => refused.push(object.id),
            Deletion::Unknown(_) => {}
        }
        if let Deletion::Refused(message) | Deletion::Unknown(message) = outcome {
            failed += 1;
            if failed == 1 {
                tracing::warn!(run = progress.id, key = object.key, message, "a delete failed");
                progress.note_failure(&object.key, message);
            }
        }
    }
    let mut conn = app.db.acquire().await?;
    for ids in confirmed.chunks(STATEMENT) {
        db::marks::remove(&mut conn, progress.id, ids).await?;
    }
    for ids in refused.chunks(STATEMENT) {
        db::marks::give_back(&mut conn, progress.id, ids).await?;
    }
    progress.count(|stats| {
        stats.objects_deleted_after_grace_period += signed(confirmed.len());
        stats.objects_failed_to_delete += failed;
        stats.bytes_freed += bytes;
    });
    Ok(confirmed)
}
