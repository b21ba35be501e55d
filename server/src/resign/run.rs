//! A run's row: begun by whoever starts it, kept alive and ended here.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use niks3_protocol::api::resign::ResignCounts;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::ResignError;
use super::walk::Walk;
use crate::app::App;
use crate::db;
use crate::runs::{REMEMBERED, keep_alive};
use crate::signer::Keys;

/// Where a run is.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) since: Option<OffsetDateTime>,
    pub(super) after: Option<String>,
    pub(super) counts: ResignCounts,
}

pub(super) type Progress = Arc<Mutex<State>>;

pub(super) fn change<T>(progress: &Progress, change: impl FnOnce(&mut State) -> T) -> T {
    change(&mut progress.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Runs to the end and writes down how it went.
pub(super) async fn run(app: &App, id: i64, from: State, keys: Arc<Keys>, stop: &CancellationToken) {
    let progress: Progress = Arc::new(Mutex::new(from));
    let stop = stop.child_token();
    let mut walk = Walk::new(app, Arc::clone(&progress), Arc::clone(&keys), &stop);
    let result = tokio::select! {
        result = walk.all() => result,
        _ = keep_alive(|| beat(app, id, &progress)) => Err(ResignError::Lost),
        never = end_with(app, &keys, &stop) => match never {},
    };
    let others = !Arc::ptr_eq(&app.keys.now(), &keys);
    let result = result.map_err(|error| match error {
        ResignError::Stopped if others => ResignError::Changed,
        error => error,
    });
    let counts = change(&progress, |state| state.counts);
    match &result {
        Ok(()) => tracing::info!(run = id, ?counts, "narinfos are signed"),
        Err(ResignError::Stopped) => tracing::info!(run = id, ?counts, "signing narinfos is left to others"),
        Err(ResignError::Changed) => {
            tracing::info!(run = id, ?counts, "narinfos are to have other signatures");
        }
        Err(error) => tracing::error!(run = id, ?counts, error = %error, "signing narinfos failed"),
    }
    if let Err(error) = finish(app, id, &progress, result).await {
        tracing::error!(
            run = id,
            error = &error as &dyn std::error::Error,
            "the end of the run was not noted"
        );
    }
}

/// Lets a run come to its end where it can once other keys are in force; never ends itself.
async fn end_with(app: &App, keys: &Arc<Keys>, stop: &CancellationToken) -> Infallible {
    let mut changes = app.keys.subscribe();
    if changes.wait_for(|now| !Arc::ptr_eq(now, keys)).await.is_ok() {
        stop.cancel();
    }
    std::future::pending().await
}

async fn beat(app: &App, id: i64, progress: &Progress) -> Result<Option<bool>, ResignError> {
    let State { after, counts, .. } = change(progress, |state| state.clone());
    let mut conn = app.db.acquire().await?;
    let counts = serde_json::to_value(counts)?;
    let row = db::resign_runs::update(&mut conn, id, &counts, after.as_deref()).await?;
    Ok(row.map(|_| false))
}

async fn finish(
    app: &App,
    id: i64,
    progress: &Progress,
    result: Result<(), ResignError>,
) -> Result<(), ResignError> {
    beat(app, id, progress).await?;
    let error = result.err().map(|error| match error {
        ResignError::Database(cause) => format!("database: {cause}"),
        other => other.to_string(),
    });
    let mut conn = app.db.acquire().await?;
    db::resign_runs::finish(&mut conn, id, error.as_deref()).await?;
    Ok(db::resign_runs::delete_all_but(&mut conn, REMEMBERED).await?)
}
