//! Sweeping: claim, delete, settle. No transaction is open while the bucket deletes.
//!
//! Narinfos go first, and what they point to only after their deletion is confirmed: a reader never meets a
//! narinfo without its NAR.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bits::BitSet;
use super::mark::Mark;
use super::run::Progress;
use super::{GcError, signed};
use crate::app::App;
use crate::bucket::{Deletion, MAX_DELETE_KEYS};
use crate::db::marks::{Claimed, STATEMENT};
use crate::{db, writing};

/// Batches under way at a time.
const CONCURRENT_BATCHES: usize = 4;

/// Something a sweep may claim: its index, its id, and since when it is condemned.
type Candidate = (u32, i64, OffsetDateTime);

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
    mark: &Mark,
    grace: Duration,
    stop: &CancellationToken,
) -> Result<(), GcError> {
    let ripe = |since: &OffsetDateTime| mark.taken_at - *since >= grace;
    let (narinfos, others): (Vec<Candidate>, Vec<Candidate>) = mark
        .graph
        .condemned
        .iter()
        .filter(|(index, since)| mark.covers(*index) && !mark.protected.contains(*index) && ripe(since))
        .map(|(index, since)| (*index, mark.graph.id(*index), *since))
        .partition(|(index, _, _)| mark.graph.narinfos.contains(*index));

    let mut gone = BitSet::new(mark.graph.len());
    for id in delete_all(app, progress, &narinfos, stop).await? {
        if let Some(index) = mark.graph.index_of(id) {
            gone.insert(index);
        }
    }
    let staying = mark.graph.indexes().filter(|index| {
        mark.graph.narinfos.contains(*index) && !mark.protected.contains(*index) && !gone.contains(*index)
    });
    let still_pointed_to = mark.graph.reachable(staying);
    let others: Vec<Candidate> =
        others.into_iter().filter(|(index, _, _)| !still_pointed_to.contains(*index)).collect();
    delete_all(app, progress, &others, stop).await?;
    Ok(())
}

/// Claims and deletes in batches; gives the ids the bucket confirmed.
async fn delete_all(
    app: &App,
    progress: &Progress,
    candidates: &[Candidate],
    stop: &CancellationToken,
) -> Result<Vec<i64>, GcError> {
    let batches: Vec<Vec<Candidate>> =
        candidates.chunks(MAX_DELETE_KEYS).map(<[Candidate]>::to_vec).collect();
    futures::stream::iter(batches)
        .map(|batch| claim_and_delete(app, progress, batch, stop))
        .buffer_unordered(CONCURRENT_BATCHES)
        .try_concat()
        .await
}

async fn claim_and_delete(
    app: &App,
    progress: &Progress,
    batch: Vec<Candidate>,
    stop: &CancellationToken,
) -> Result<Vec<i64>, GcError> {
    if stop.is_cancelled() {
        return Err(GcError::Stopped);
    }
    let (ids, since): (Vec<i64>, Vec<OffsetDateTime>) =
        batch.into_iter().map(|(_, id, since)| (id, since)).unzip();
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
