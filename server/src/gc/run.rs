//! One run, from expiring uploads to vacuuming, with its heartbeat.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use niks3_protocol::api::gc::{GcParams, GcPhase, GcStats};
use tokio_util::sync::CancellationToken;

use super::{GcError, json, mark, safe_upload_age, sweep, text};
use crate::app::App;
use crate::{db, push};

/// A running collection gives a sign of life so often.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Closures deleted in one transaction.
const CLOSURE_BATCH: i64 = 1000;

/// A run's row, as its steps change it.
pub(super) struct Progress {
    /// The run's number.
    pub(super) id: i64,
    state: Mutex<(GcPhase, GcStats)>,
}

impl Progress {
    fn enter(&self, phase: GcPhase) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = phase;
    }

    /// Changes the counts.
    pub(super) fn count(&self, change: impl FnOnce(&mut GcStats)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).1);
    }

    fn snapshot(&self) -> (GcPhase, GcStats) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs to the end and writes down how it went.
pub(super) async fn run(app: Arc<App>, id: i64, params: GcParams, stop: CancellationToken) {
    let progress = Progress { id, state: Mutex::new((GcPhase::CleanupPendingUploads, GcStats::default())) };
    let result = tokio::select! {
        result = collect(&app, &params, &progress, &stop) => result,
        lost = heartbeat(&app, &progress) => Err(lost),
    };
    if let Err(error) = finish(&app, &progress, result).await {
        tracing::error!(
            run = id,
            error = &error as &dyn std::error::Error,
            "a collection's end was not noted"
        );
    }
}

async fn collect(
    app: &App,
    params: &GcParams,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<(), GcError> {
    let expired = push::expire(app, params.failed_uploads_older_than.0.max(safe_upload_age(app))).await?;
    progress.count(|stats| stats.failed_uploads_deleted += signed(expired));

    progress.enter(GcPhase::CleanupOldClosures);
    loop {
        if stop.is_cancelled() {
            return Err(GcError::Stopped);
        }
        let mut conn = app.db.acquire().await?;
        let deleted = match db::closures::delete_old(&mut conn, params.older_than.0, CLOSURE_BATCH).await {
            // A pin came between the search and the deletion; the next search sees it.
            Err(error) if db::is_referenced(&error) => continue,
            result => result?,
        };
        progress.count(|stats| stats.old_closures_deleted += signed(deleted));
        if deleted == 0 {
            break;
        }
    }

    progress.enter(GcPhase::CleanupOrphanObjects);
    sweep::take_over(app, progress, stop).await?;
    let grace = grace(params);
    if grace.is_zero() {
        // What this mark condemns was condemned before the next one's snapshot.
        drop(mark::mark(app, progress).await?);
    }
    let mark = mark::mark(app, progress).await?;
    sweep::sweep(app, progress, &mark, grace, stop).await?;

    progress.enter(GcPhase::VacuumTables);
    let mut conn = app.db.acquire().await?;
    Ok(db::marks::vacuum(&mut conn).await?)
}

/// How long what nothing reaches stays: niks3 1.7 has one parameter for this and for uploads.
fn grace(params: &GcParams) -> Duration {
    if params.force {
        Duration::ZERO
    } else {
        params.deletion_grace.unwrap_or(params.failed_uploads_older_than).0
    }
}

/// Ends only when another server took the run for dead.
async fn heartbeat(app: &App, progress: &Progress) -> GcError {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        match beat(app, progress).await {
            Ok(true) => {}
            Ok(false) => return GcError::Lost,
            // The database may come back before the silence is noticed.
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "no sign of life given"),
        }
    }
}

async fn beat(app: &App, progress: &Progress) -> Result<bool, GcError> {
    let (phase, stats) = progress.snapshot();
    let mut conn = app.db.acquire().await?;
    Ok(db::gc_runs::update(&mut conn, progress.id, &text(phase)?, &json(&stats)?).await?)
}

async fn finish(app: &App, progress: &Progress, result: Result<(), GcError>) -> Result<(), GcError> {
    let (phase, stats) = progress.snapshot();
    let failure = result.err().map(|error| {
        let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    });
    match &failure {
        None => tracing::info!(run = progress.id, ?stats, "collection succeeded"),
        Some(error) => tracing::error!(run = progress.id, ?stats, error, "collection failed"),
    }
    let mut conn = app.db.acquire().await?;
    db::gc_runs::finish(&mut conn, progress.id, &text(phase)?, &json(&stats)?, failure.as_deref()).await?;
    Ok(())
}

pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
