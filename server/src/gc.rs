//! Collections: one run at a time per cache, across replicas, held in the database with a heartbeat. That is an
//! economy: two at once are safe too (docs/gc.md). A run's parameters, phase, counts, plan and result are a row.

mod back;
mod bits;
mod decide;
mod delete;
mod error;
mod expire;
mod explain;
mod graph;
mod mark;
mod order;
mod pace;
mod report;
mod rules;
mod run;
mod snapshot;
mod sweep;
mod unanswered;

use std::sync::Arc;

use niks3_protocol::api::gc::{
    Delete, DeleteRequest, GcConflict, GcParams, GcPhase, GcState, GcStats, GcStatus,
};
use niks3_protocol::duration::GoDuration;
use niks3_protocol::nix::StorePathHash;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::db;
use crate::db::gc_runs::GcRun;
use crate::runs::{SILENCE, name_of, named};
pub use error::GcError;
pub use explain::{usage, why};
pub use unanswered::keep;

/// The runs of this server; they end with it.
#[derive(Debug, Default, Clone)]
pub struct Runner {
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Held by whoever looks at the whole cache and changes nothing: one at a time.
    looking: Arc<tokio::sync::Mutex<()>>,
}

impl Runner {
    /// Lets a task run until it ends, or is told to because the server does.
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        task: impl FnOnce(CancellationToken) -> F,
    ) {
        self.tasks.spawn(task(self.stop.child_token()));
    }

    /// Asks the run of this server to stop after its current batch, and waits for that.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Starts a run as a policy asks for it. What cannot be carried out safely is refused.
pub async fn start_policy(app: &Arc<App>, params: GcParams) -> Result<GcStatus, GcError> {
    if params.delete.is_some() {
        return Err(GcError::Invalid("`delete` is not a policy's: POST /api/paths/{hash}/delete".to_owned()));
    }
    params.check().map_err(|error| GcError::Invalid(error.to_string()))?;
    let safe = app.upload_lifetime();
    if params.failed_uploads_older_than.0 < safe {
        return Err(GcError::Invalid(format!(
            "failed_uploads_older_than {} is shorter than an upload may last; give at least {}",
            params.failed_uploads_older_than,
            GoDuration(safe)
        )));
    }
    start(app, params).await
}

/// Starts the deletion of a path and all that depends on it.
pub async fn start_delete(
    app: &Arc<App>,
    hash: StorePathHash,
    request: DeleteRequest,
) -> Result<GcStatus, GcError> {
    let key = format!("{hash}.narinfo");
    let mut conn = app.db.acquire().await?;
    if db::objects::list_states(&mut conn, std::slice::from_ref(&key)).await?.is_empty() {
        return Err(GcError::NotThere(key));
    }
    drop(conn);
    let params = GcParams {
        failed_uploads_older_than: GcParams::default_failed_uploads(),
        force: true,
        dry_run: request.dry_run,
        delete: Some(Delete { hash, force: request.force }),
        ..GcParams::default()
    };
    start(app, params).await
}

/// Starts a run, or joins the active one where its parameters are the same.
pub async fn start(app: &Arc<App>, params: GcParams) -> Result<GcStatus, GcError> {
    let mut conn = app.db.acquire().await?;
    db::gc_runs::fail_silent(&mut conn, SILENCE).await?;
    let phase = name_of(GcPhase::CleanupPendingUploads)?;
    let warnings = warnings(app, &params);
    let stats = serde_json::to_value(GcStats::default())?;
    // Between a refused insert and the look at who is running, that run may end: then the insert goes again.
    for _ in 0..3 {
        let asked = serde_json::to_value(&params)?;
        if let Some(row) = db::gc_runs::insert_running(&mut conn, &phase, &asked, &stats, &warnings).await? {
            let id = row.id;
            let status = status_of(row)?;
            app.gc.spawn(|stop| run::run(Arc::clone(app), id, params, stop));
            return Ok(status);
        }
        let active = db::gc_runs::find_latest(&mut conn).await?.map(status_of).transpose()?;
        match active {
            Some(active) if active.state != GcState::Running => {}
            Some(active) if active.params == params => return Ok(active),
            Some(active_task) => {
                let error = format!(
                    "a collection with other parameters is running since {}; wait for it to end",
                    active_task.started_at
                );
                return Err(GcError::Conflict(Box::new(GcConflict { error, active_task })));
            }
            None => {}
        }
    }
    Err(GcError::Lost)
}

/// The newest run.
pub async fn status(app: &App) -> Result<Option<GcStatus>, GcError> {
    let mut conn = app.db.acquire().await?;
    db::gc_runs::fail_silent(&mut conn, SILENCE).await?;
    db::gc_runs::find_latest(&mut conn).await?.map(status_of).transpose()
}

/// One run.
pub async fn find(app: &App, id: i64) -> Result<Option<GcStatus>, GcError> {
    let mut conn = app.db.acquire().await?;
    db::gc_runs::fail_silent(&mut conn, SILENCE).await?;
    db::gc_runs::find(&mut conn, id).await?.map(status_of).transpose()
}

/// The newest runs first, without their plans.
pub async fn list(app: &App, limit: i64) -> Result<Vec<GcStatus>, GcError> {
    let mut conn = app.db.acquire().await?;
    db::gc_runs::fail_silent(&mut conn, SILENCE).await?;
    db::gc_runs::list(&mut conn, limit).await?.into_iter().map(status_of).collect()
}

/// Asks the active run to end after its current batch, on whichever server it is; false where none is active.
pub async fn abort(app: &App) -> Result<bool, GcError> {
    let mut conn = app.db.acquire().await?;
    db::gc_runs::fail_silent(&mut conn, SILENCE).await?;
    Ok(db::gc_runs::request_abort(&mut conn).await?.is_some())
}

fn warnings(app: &App, params: &GcParams) -> Vec<String> {
    let safe = app.upload_lifetime();
    if params.delete.is_some() || params.failed_uploads_older_than.0 >= safe {
        return Vec::new();
    }
    vec![format!(
        "failed-uploads-older-than {} is raised to {}: before that an upload's addresses may still be used",
        params.failed_uploads_older_than,
        GoDuration(safe)
    )]
}

fn status_of(row: GcRun) -> Result<GcStatus, GcError> {
    let state = named(row.state)?;
    // Whoever follows a run asks each second; the plan is for its end.
    let plan = row.plan.filter(|_| state != GcState::Running);
    Ok(GcStatus {
        id: Some(row.id),
        state,
        phase: named(row.phase)?,
        params: serde_json::from_value(row.params)?,
        stats: serde_json::from_value(row.stats)?,
        error: row.error,
        reason: row.reason.map(named).transpose()?,
        plan: plan.map(serde_json::from_value).transpose()?,
        warnings: row.warnings,
        started_at: row.started_at,
        updated_at: row.updated_at,
        finished_at: row.finished_at,
    })
}

/// What takes a core for seconds does not keep requests waiting.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, GcError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| GcError::Graph(error.to_string()))
}

fn signed(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
