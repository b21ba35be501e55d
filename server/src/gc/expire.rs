//! Expiring what no rule keeps: pins, then closures. Each goes only if nobody pushed, refreshed or wrote it since
//! the snapshot, so whoever comes between is right.

use std::collections::HashSet;

use niks3_protocol::object_key::PIN_PREFIX;
use tokio_util::sync::CancellationToken;

use super::decide::Decision;
use super::run::Progress;
use super::{GcError, signed};
use crate::app::App;
use crate::bucket::Deletion;
use crate::db::roots::{ClosureRow, PinRow};
use crate::{db, pins};

/// Closures deleted in one transaction: with each go its revisions, and it is looked for among the pins.
const BATCH: usize = 50;
/// A pin may come between the search and the deletion; the next search sees it.
const ATTEMPTS: u32 = 5;

/// Deletes what the decision drops; gives the objects of closures that stayed after all.
pub(super) async fn expire(
    app: &App,
    progress: &Progress,
    decision: &Decision,
    stop: &CancellationToken,
) -> Result<Vec<i64>, GcError> {
    let pins: Vec<PinRow> = decision.dropped_pins.iter().map(|(pin, _)| pin.clone()).collect();
    let closures: Vec<ClosureRow> = decision.dropped.iter().filter_map(|root| root.closure).collect();
    let mut stayed: HashSet<i64> = closures.iter().map(|closure| closure.object).collect();
    // A pin goes in one transaction with its closure: that a rule gave it up is known from its row alone.
    for batch in pins.chunks(BATCH) {
        let objects: HashSet<i64> = batch.iter().map(|pin| pin.object).collect();
        let theirs: Vec<ClosureRow> =
            closures.iter().filter(|closure| objects.contains(&closure.object)).copied().collect();
        let gone = delete(app, progress, batch, &theirs, stop).await?;
        stayed.retain(|object| !gone.contains(object));
    }
    let rest: Vec<ClosureRow> =
        closures.into_iter().filter(|closure| stayed.contains(&closure.object)).collect();
    for batch in rest.chunks(BATCH) {
        let gone = delete(app, progress, &[], batch, stop).await?;
        stayed.retain(|object| !gone.contains(object));
    }
    Ok(stayed.into_iter().collect())
}

async fn delete(
    app: &App,
    progress: &Progress,
    pins: &[PinRow],
    closures: &[ClosureRow],
    stop: &CancellationToken,
) -> Result<Vec<i64>, GcError> {
    let mut attempt = 1;
    let (names, gone) = loop {
        if stop.is_cancelled() {
            return Err(GcError::Stopped);
        }
        match delete_rows(app, pins, closures).await {
            Err(error) if attempt < ATTEMPTS && (db::is_referenced(&error) || db::is_retryable(&error)) => {
                attempt += 1;
            }
            result => break result?,
        }
    };
    progress.count(|stats| stats.old_closures_deleted += signed(gone.len()));
    for name in &names {
        tracing::info!(run = progress.id, name, "a pin is dropped by its rule");
    }
    delete_pin_objects(app, &names).await?;
    Ok(gone)
}

async fn delete_rows(
    app: &App,
    pins: &[PinRow],
    closures: &[ClosureRow],
) -> sqlx::Result<(Vec<String>, Vec<i64>)> {
    let mut transaction = db::begin(&app.db).await?;
    let mut names = Vec::new();
    if !pins.is_empty() {
        let objects: Vec<i64> = pins.iter().map(|pin| pin.object).collect();
        db::roots::lock_closures(&mut transaction, &objects).await?;
        names = db::roots::delete_pins(&mut transaction, pins).await?;
    }
    let gone = db::roots::delete_closures(&mut transaction, closures).await?;
    transaction.commit().await?;
    Ok((names, gone))
}

/// The objects that tell readers of the bucket what a pin points to. One that was written anew meanwhile is
/// written again.
async fn delete_pin_objects(app: &App, names: &[String]) -> Result<(), GcError> {
    if names.is_empty() {
        return Ok(());
    }
    let keys: Vec<String> = names.iter().map(|name| format!("{PIN_PREFIX}{name}")).collect();
    for (key, outcome) in keys.iter().zip(app.bucket.delete(&keys).await) {
        if let Deletion::Refused(message) | Deletion::Unknown(message) = outcome {
            tracing::warn!(key, message, "the object of a dropped pin is left in the bucket");
        }
    }
    let mut conn = app.db.acquire().await?;
    let again = db::pins::find(&mut conn, names).await?;
    drop(conn);
    for (name, store_path) in again {
        pins::put_object(app, &name, &store_path).await?;
    }
    Ok(())
}
