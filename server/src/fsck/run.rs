//! `POST /api/fsck`: a comparison that the server runs, one at a time per cache across replicas. Its row has its
//! parameters and, each second anew, how far it is, so that the next one goes on where a dead server's was.

use std::sync::{Arc, Mutex};

use niks3_protocol::api::fsck::{FsckConflict, FsckMode, FsckParams, FsckPhase, FsckStatus, FsckSummary};
use niks3_protocol::api::gc::{GcReason, GcState};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::progress::{Progress, State};
use super::{Options, walk};
use crate::app::App;
use crate::db;
use crate::db::fsck_runs::{At, FsckRun};
use crate::runs::{End, REMEMBERED, SILENCE, keep_alive, name_of, named};

/// A run that failed longer ago is begun anew: what it compared may have changed since.
const STALE: time::Duration = time::Duration::DAY;

/// Why a run failed, or was not started.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// Parameters that cannot be carried out.
    #[error("{0}")]
    Invalid(String),
    /// Another run, with other parameters, is active.
    #[error("{}", .0.error)]
    Conflict(Box<FsckConflict>),
    /// More differs than may be repaired at once.
    #[error(
        "the safety limit is reached, and nothing was repaired: {0}. Is this the database of this bucket? \
         Where it is meant, run once with a higher limit"
    )]
    SafetyLimit(String),
    /// Somebody asked for its end.
    #[error("the run was aborted")]
    Aborted,
    /// The server ends.
    #[error("the server is shutting down; the next run of the same kind goes on where this one was")]
    Stopped,
    /// Another server declared this run dead.
    #[error("the run gave no sign of life for {SILENCE:?} and was taken for dead")]
    Lost,
    /// PostgreSQL.
    #[error("database")]
    Database(#[from] sqlx::Error),
    /// A row that this version cannot read.
    #[error("the run's row is not readable")]
    Row(#[from] serde_json::Error),
    /// It could not be compared.
    #[error("{0:#}")]
    Compare(anyhow::Error),
}

/// Starts a run, or joins the active one where its parameters are the same.
pub async fn start(app: &Arc<App>, params: FsckParams) -> Result<FsckStatus, FsckError> {
    params.check().map_err(|error| FsckError::Invalid(error.to_string()))?;
    let mut conn = app.db.acquire().await?;
    db::fsck_runs::fail_silent(&mut conn, SILENCE).await?;
    // Between a refused insert and the look at who is running, that run may end: then the insert goes again.
    for _ in 0..3 {
        let newest = db::fsck_runs::list(&mut conn, 1).await?.pop().map(status_of).transpose()?;
        if let Some(active_task) = newest.as_ref().filter(|run| run.state == GcState::Running) {
            if active_task.params == params {
                return Ok(active_task.clone());
            }
            let error = format!(
                "a comparison with other parameters is running since {}; wait for it to end",
                active_task.started_at
            );
            return Err(FsckError::Conflict(Box::new(FsckConflict {
                error,
                active_task: active_task.clone(),
            })));
        }
        let from = newest.filter(|run| can_go_on(run, &params)).map(State::of).unwrap_or_default();
        let row = {
            let (phase, summary) = (name_of(from.phase)?, serde_json::to_value(from.summary)?);
            let findings = serde_json::to_value(&from.findings)?;
            let at = At {
                phase: &phase,
                summary: &summary,
                findings: Some(&findings),
                after: from.after.as_deref(),
            };
            db::fsck_runs::insert_running(&mut conn, &serde_json::to_value(params)?, &at).await?
        };
        if let Some(row) = row {
            let (id, status, task) = (row.id, status_of(row)?, Arc::clone(app));
            app.gc.spawn(|stop| async move { run(&task, id, params, from, &stop).await });
            return Ok(status);
        }
    }
    Err(FsckError::Lost)
}

/// The newest run.
pub async fn status(app: &App) -> Result<Option<FsckStatus>, FsckError> {
    Ok(list(app, 1).await?.pop())
}

/// One run.
pub async fn find(app: &App, id: i64) -> Result<Option<FsckStatus>, FsckError> {
    let mut conn = app.db.acquire().await?;
    db::fsck_runs::fail_silent(&mut conn, SILENCE).await?;
    db::fsck_runs::find(&mut conn, id).await?.map(status_of).transpose()
}

/// The newest runs first.
pub async fn list(app: &App, limit: i64) -> Result<Vec<FsckStatus>, FsckError> {
    let mut conn = app.db.acquire().await?;
    db::fsck_runs::fail_silent(&mut conn, SILENCE).await?;
    db::fsck_runs::list(&mut conn, limit).await?.into_iter().map(status_of).collect()
}

/// Asks the active run to end, on whichever server it is; false where none is active.
pub async fn abort(app: &App) -> Result<bool, FsckError> {
    let mut conn = app.db.acquire().await?;
    db::fsck_runs::fail_silent(&mut conn, SILENCE).await?;
    Ok(db::fsck_runs::request_abort(&mut conn).await?.is_some())
}

/// Whether a run of the same kind was interrupted, and not long ago.
fn can_go_on(run: &FsckStatus, params: &FsckParams) -> bool {
    let lately = run.finished_at.is_some_and(|at| OffsetDateTime::now_utc() - at < STALE);
    run.state == GcState::Failed && run.reason.is_none() && run.params == *params && lately
}

/// Runs to the end and writes down how it went. To end it anywhere is what a crash does: whatever it repairs goes
/// by the steps of docs/gc.md.
async fn run(app: &App, id: i64, params: FsckParams, from: State, stop: &CancellationToken) {
    let progress = Progress(Arc::new(Mutex::new(from)));
    let result = tokio::select! {
        result = compare(app, params, &progress) => result,
        () = stop.cancelled() => Err(FsckError::Stopped),
        end = keep_alive(|| beat(app, id, &progress)) => Err(match end {
            End::Asked => FsckError::Aborted,
            End::Lost => FsckError::Lost,
        }),
    };
    let summary = progress.change(|state| state.summary);
    match &result {
        Ok(()) => tracing::info!(run = id, ?summary, "fsck ended"),
        Err(error) => tracing::error!(run = id, ?summary, error = %error, "fsck failed"),
    }
    if let Err(error) = finish(app, id, &progress, result).await {
        tracing::error!(run = id, error = &error as &dyn std::error::Error, "the end of fsck was not noted");
    }
}

/// First it is looked what differs; where that is to be repaired and is no more than it may be, once more.
async fn compare(app: &App, params: FsckParams, progress: &Progress) -> Result<(), FsckError> {
    let options = Options { deep: params.deep, young: app.upload_lifetime(), ..Options::default() };
    let mut deep = params.deep;
    if progress.change(|state| state.phase) == FsckPhase::Compare {
        let found = go(app, options.clone(), progress).await?;
        if params.mode == FsckMode::Check || found.is_clean() {
            return Ok(());
        }
        if let Some(sentence) = exceeds(&found, &params) {
            return Err(FsckError::SafetyLimit(sentence));
        }
        // What was read and is whole need not be read again.
        deep = found.damaged > 0;
        progress.change(|state| {
            *state = State { phase: FsckPhase::Repair, is_new: true, ..State::default() };
        });
    }
    go(app, Options { repair: true, deep, ..options }, progress).await.map(drop)
}

/// Goes on where it is.
async fn go(app: &App, options: Options, progress: &Progress) -> Result<FsckSummary, FsckError> {
    let (after, summary) = progress.change(|state| (state.after.clone(), state.summary));
    let options = Options { after, ..options };
    let summary = walk(app, &options, summary, &mut progress.clone()).await.map_err(FsckError::Compare)?;
    progress.change(|state| state.summary = summary);
    Ok(summary)
}

/// Why nothing is repaired.
fn exceeds(found: &FsckSummary, params: &FsckParams) -> Option<String> {
    // What is nobody's business would make the share small.
    let (differ, all) = (found.findings(), (found.objects - found.foreign).max(found.rows));
    if let Some(most) = params.max_delete_objects.filter(|most| differ > *most) {
        return Some(format!("{differ} objects differ, and {most} may be repaired at once"));
    }
    let percent = u64::from(params.max_delete_percent?);
    (differ.saturating_mul(100) > all.saturating_mul(percent))
        .then(|| format!("{differ} of {all} objects differ, and {percent} % may be repaired at once"))
}

async fn beat(app: &App, id: i64, progress: &Progress) -> Result<Option<bool>, FsckError> {
    let state = progress.change(|state| state.clone());
    let (phase, summary) = (name_of(state.phase)?, serde_json::to_value(state.summary)?);
    let findings = state.is_new.then(|| serde_json::to_value(&state.findings)).transpose()?;
    let mut conn = app.db.acquire().await?;
    let at =
        At { phase: &phase, summary: &summary, findings: findings.as_ref(), after: state.after.as_deref() };
    let known = state.findings.len();
    let answer = db::fsck_runs::update(&mut conn, id, &at).await?;
    progress.change(|state| state.is_new = state.is_new && state.findings.len() > known);
    Ok(answer)
}

async fn finish(
    app: &App,
    id: i64,
    progress: &Progress,
    result: Result<(), FsckError>,
) -> Result<(), FsckError> {
    progress.change(|state| state.is_new = true);
    beat(app, id, progress).await?;
    let reason = match &result {
        Err(FsckError::SafetyLimit(_)) => Some(GcReason::SafetyLimitReached),
        Err(FsckError::Aborted) => Some(GcReason::Aborted),
        _ => None,
    };
    let reason = reason.map(name_of).transpose()?;
    let error = result.err().map(|error| match error {
        FsckError::Database(cause) => format!("database: {cause}"),
        other => other.to_string(),
    });
    let mut conn = app.db.acquire().await?;
    db::fsck_runs::finish(&mut conn, id, error.as_deref(), reason.as_deref()).await?;
    Ok(db::fsck_runs::delete_all_but(&mut conn, REMEMBERED).await?)
}

fn status_of(row: FsckRun) -> Result<FsckStatus, FsckError> {
    Ok(FsckStatus {
        id: row.id,
        state: named(row.state)?,
        phase: named(row.phase)?,
        params: serde_json::from_value(row.params)?,
        summary: serde_json::from_value(row.summary)?,
        findings: serde_json::from_value(row.findings)?,
        after: row.after,
        error: row.error,
        reason: row.reason.map(named).transpose()?,
        started_at: row.started_at,
        updated_at: row.updated_at,
        finished_at: row.finished_at,
    })
}
