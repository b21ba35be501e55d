//! One run, from expiring uploads to vacuuming, with its heartbeat.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use niks3_protocol::api::gc::{GcParams, GcPhase, GcReason, GcStats};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, trace_span};

use super::decide::{Decision, decide};
use super::mark::Mark;
use super::snapshot::{self, Snapshot};
use super::{GcError, blocking, delete, expire, mark, report, signed, sweep};
use crate::app::App;
use crate::runs::{End, REMEMBERED, keep_alive, name_of};
use crate::telemetry::chain;
use crate::{db, push};

/// A run's row, as its steps change it.
pub(super) struct Progress {
    /// The run's number.
    pub(super) id: i64,
    state: Mutex<(GcPhase, GcStats)>,
    /// A key that was not deleted, and why.
    failure: Mutex<Option<String>>,
}

impl Progress {
    pub(super) fn new(id: i64) -> Self {
        let state = Mutex::new((GcPhase::CleanupPendingUploads, GcStats::default()));
        Self { id, state, failure: Mutex::default() }
    }

    pub(super) fn enter(&self, phase: GcPhase) {
        tracing::trace!(?phase, "phase");
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = phase;
    }

    /// Changes the counts.
    pub(super) fn count(&self, change: impl FnOnce(&mut GcStats)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).1);
    }

    /// Why a delete failed; of several the first is told.
    pub(super) fn note_failure(&self, key: &str, message: &str) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert_with(|| format!("{key}: {message}"));
    }

    /// What a run that goes on where others would fail has to say.
    fn warnings(&self) -> Vec<String> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.failed();
        let objects = if count == 1 { "object was" } else { "objects were" };
        let said = failure.iter().map(|why| format!("{count} {objects} not deleted, such as {why}"));
        said.collect()
    }

    /// Deletes that were refused or had no answer.
    pub(super) fn failed(&self) -> i64 {
        self.snapshot().1.objects_failed_to_delete
    }

    fn snapshot(&self) -> (GcPhase, GcStats) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs to the end and writes down how it went.
pub(super) async fn run(app: Arc<App>, id: i64, params: GcParams, stop: CancellationToken) {
    let progress = Progress::new(id);
    let (aborted, started) = (AtomicBool::new(false), Instant::now());
    let result = tokio::select! {
        result = collect(&app, &params, &progress, &stop).instrument(trace_span!("collection", run = id)) => result,
        lost = heartbeat(&app, &progress, &stop, &aborted) => Err(lost),
    };
    let result = match result {
        Err(GcError::Stopped) if aborted.load(Ordering::Relaxed) => Err(GcError::Aborted),
        other => other,
    };
    app.metrics.count_collection(started.elapsed(), result.is_ok(), &progress.snapshot().1);
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
    if let Some(delete) = &params.delete {
        return delete::run(app, params, delete, progress, stop).await;
    }
    app.reads.flush(&app.db).await?;
    if !params.dry_run {
        let expired =
            push::expire(app, params.failed_uploads_older_than.0.max(app.upload_lifetime())).await?;
        progress.count(|stats| stats.failed_uploads_deleted += signed(expired));
    }

    progress.enter(GcPhase::CleanupOldClosures);
    let grace = grace(params);
    let (snapshot, mut decision) = plan(app, params, progress, grace, stop).await?;
    if params.dry_run {
        return Ok(());
    }
    for object in expire::expire(app, progress, &decision, stop).await? {
        if let Some(index) = snapshot.graph.index_of(object) {
            snapshot.graph.extend(&mut decision.kept, index);
        }
    }

    progress.enter(GcPhase::CleanupOrphanObjects);
    sweep::take_over(app, progress, stop).await?;
    let mut mark = Mark::new(snapshot.graph, snapshot.taken_at, decision);
    mark::condemn(app, progress, &mark, stop).await?;
    if grace.is_zero() {
        // What the first mark condemned was condemned before this one's snapshot.
        drop(mark);
        let again = snapshot::read(app, 0, params, stop).await?;
        let (snapshot, mut decision) = decided(again, params).await?;
        // What became due since is for the next run.
        decision.kept.clone_from(&decision.protected);
        mark = Mark::new(snapshot.graph, snapshot.taken_at, decision);
        mark::condemn(app, progress, &mark, stop).await?;
    }
    sweep::sweep(app, progress, mark, grace, stop).await?;

    progress.enter(GcPhase::VacuumTables);
    let mut conn = app.db.acquire().await?;
    crate::reads::forget_orphans(&mut conn).await?;
    db::gc_runs::delete_all_but(&mut conn, REMEMBERED).await?;
    Ok(db::marks::vacuum(&mut conn).await?)
}

/// What a policy makes of the cache as it is now, kept with the run. Stops where it would go too far.
async fn plan(
    app: &App,
    params: &GcParams,
    progress: &Progress,
    grace: Duration,
    stop: &CancellationToken,
) -> Result<(Snapshot, Decision), GcError> {
    let (snapshot, decision) = decided(snapshot::read(app, 0, params, stop).await?, params).await?;
    let (snapshot, decision, draft) = blocking(move || {
        let draft = report::draft(&snapshot, &decision, grace);
        (snapshot, decision, draft)
    })
    .await?;
    let mut plan = report::finish(draft, &decision, &app.db).await?;
    let exceeds = report::exceeds(&plan, params);
    if params.dry_run {
        progress.count(|stats| *stats = report::stats(&plan));
    }
    plan.notes.extend(exceeds.iter().map(|sentence| format!("a run would stop: {sentence}")));
    let mut conn = app.db.acquire().await?;
    db::gc_runs::set_plan(&mut conn, progress.id, &serde_json::to_value(&plan)?).await?;
    match exceeds {
        Some(sentence) if !params.dry_run => Err(GcError::SafetyLimit(sentence)),
        _ => Ok((snapshot, decision)),
    }
}

async fn decided(snapshot: Snapshot, params: &GcParams) -> Result<(Snapshot, Decision), GcError> {
    let params = params.clone();
    blocking(move || {
        let decision = decide(&snapshot, &params);
        (snapshot, decision)
    })
    .await
}

/// How long what nothing reaches stays: niks3 1.7 has one parameter for this and for uploads.
pub(super) fn grace(params: &GcParams) -> Duration {
    if params.force {
        Duration::ZERO
    } else {
        params.deletion_grace.unwrap_or(params.failed_uploads_older_than).0
    }
}

/// Ends only when another server took the run for dead.
async fn heartbeat(
    app: &App,
    progress: &Progress,
    stop: &CancellationToken,
    aborted: &AtomicBool,
) -> GcError {
    while keep_alive(|| beat(app, progress)).await == End::Asked {
        // It ends after what it is at, and lives until then.
        aborted.store(true, Ordering::Relaxed);
        stop.cancel();
    }
    GcError::Lost
}

async fn beat(app: &App, progress: &Progress) -> Result<Option<bool>, GcError> {
    let (phase, stats) = progress.snapshot();
    let mut conn = app.db.acquire().await?;
    let (phase, stats) = (name_of(phase)?, serde_json::to_value(stats)?);
    Ok(db::gc_runs::update(&mut conn, progress.id, &phase, &stats).await?)
}

async fn finish(app: &App, progress: &Progress, result: Result<(), GcError>) -> Result<(), GcError> {
    let (phase, stats) = progress.snapshot();
    let reason = match &result {
        Err(GcError::SafetyLimit(_)) => Some(GcReason::SafetyLimitReached),
        Err(GcError::Aborted) => Some(GcReason::Aborted),
        Err(GcError::Held(_)) => Some(GcReason::Held),
        _ => None,
    };
    let reason = reason.map(name_of).transpose()?;
    let failure = result.err().map(|error| chain(&error));
    match &failure {
        None => tracing::info!(run = progress.id, ?stats, "collection succeeded"),
        Some(error) => tracing::error!(run = progress.id, ?stats, error, "collection failed"),
    }
    let mut conn = app.db.acquire().await?;
    let (phase, stats) = (name_of(phase)?, serde_json::to_value(stats)?);
    let warnings = progress.warnings();
    let end = db::gc_runs::End { error: failure.as_deref(), reason: reason.as_deref(), warnings: &warnings };
    db::gc_runs::finish(&mut conn, progress.id, &phase, &stats, &end).await?;
    Ok(())
}
