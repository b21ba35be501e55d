//! Signing stored narinfos again when the keys that sign change, in the background: docs/keys.md says what a narinfo is
//! to have, docs/gc.md (rule 13) how it is written without bringing back what a collection deletes.
//!
//! A run is a row of the database, one at a time across replicas; one that its server did not end is gone on with.

mod due;
mod narinfo;
mod run;
mod walk;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use niks3_protocol::api::gc::GcState;
use niks3_protocol::api::health::KeysInForce;
use niks3_protocol::api::resign::{ResignCounts, ResignParams, ResignStatus};
use niks3_protocol::server_config::ResignMode;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::app::App;
use crate::bucket::BucketError;
use crate::db;
use crate::db::resign_runs::{NewRun, ResignRun};
use crate::runs::{SILENCE, named};
use crate::signer::Keys;
use due::{DONE, Next, Seen};
use run::State;

/// Where it is not known yet whether database and bucket are there, it is looked again so often.
const NOT_READY: Duration = Duration::from_millis(200);
/// Servers whose keys differ do not undo each other's work more often than this.
const TAKE_TURNS: Duration = Duration::from_hours(1);
/// A run that failed longer ago is begun anew: what it did may have been undone since.
const STALE: time::Duration = time::Duration::DAY;

/// Why a run failed, or was not started.
#[derive(Debug, thiserror::Error)]
pub enum ResignError {
    /// No key, and nothing revoked.
    #[error("this server has no signing key, and none is revoked: there is nothing to sign with")]
    NoKey,
    /// Another run, with other keys, is active.
    #[error("narinfos are being signed with other keys since {0}; wait for that to end")]
    Conflict(OffsetDateTime),
    /// S3 takes nothing.
    #[error("S3 takes no narinfos: {}", .0.message)]
    Bucket(BucketError),
    /// S3 refuses some.
    #[error("S3 refuses {count} narinfos; the first: {message}")]
    Refused {
        /// How many.
        count: u64,
        /// What it says.
        message: String,
    },
    /// Other keys are in force.
    #[error("other keys are in force meanwhile; a run with those follows")]
    Changed,
    /// The server ends.
    #[error("the server is shutting down; another one goes on where this one was")]
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
}

/// Signs again whatever is not signed by the keys of now, for as long as the server runs.
pub async fn keep(app: Arc<App>) {
    if app.config.resign.mode == ResignMode::Manual {
        return;
    }
    while app.health.require_database().is_err() || app.health.require_storage().is_err() {
        tokio::time::sleep(NOT_READY).await;
    }
    let mut keeper = Keeper::default();
    let mut changes = app.keys.subscribe();
    loop {
        let wait = match keeper.look(&app).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "whether narinfos are signed is not known");
                DONE
            }
        };
        // For so long, or until other keys are in force: the next look sees which.
        let _ = tokio::time::timeout(wait, changes.changed()).await;
    }
}

/// What a server remembers between two looks.
#[derive(Debug, Default)]
struct Keeper {
    /// Failed runs of these keys in a row, and the last of them.
    failures: u32,
    failed: Option<i64>,
    /// When this server last began a run over all.
    began: Option<Instant>,
    /// What that is about, and since when it is in force where the server had other keys before.
    of: Option<ResignParams>,
    taken: Option<OffsetDateTime>,
}

impl Keeper {
    async fn look(&mut self, app: &Arc<App>) -> Result<Duration, ResignError> {
        let (keys, params) = params(app);
        if self.of.as_ref() != Some(&params) {
            let taken = self.of.as_ref().map(|_| OffsetDateTime::now_utc());
            *self = Self { of: Some(params.clone()), taken, ..Self::default() };
        }
        if params == ResignParams::default() {
            return Ok(DONE);
        }
        let mut conn = app.db.acquire().await?;
        db::resign_runs::fail_silent(&mut conn, SILENCE).await?;
        let newest = db::resign_runs::find_newest(&mut conn, false).await?;
        let whole = db::resign_runs::find_newest(&mut conn, true).await?;
        drop(conn);
        let id = newest.as_ref().map(|run| run.id);
        let [newest, whole] = [newest, whole].map(|run| run.map(|run| seen(&run, &params)).transpose());
        let (newest, whole) = (newest?, whole?);
        match newest.filter(|run| run.mine).map(|run| run.state) {
            Some(GcState::Failed) if self.failed != id => {
                (self.failures, self.failed) =
                    (if self.failed.is_some() { self.failures + 1 } else { 0 }, id);
            }
            Some(GcState::Succeeded) => (self.failures, self.failed) = (0, None),
            _ => {}
        }
        let (lifetime, now) = (app.upload_lifetime(), OffsetDateTime::now_utc());
        let since = match due::next(newest, whole, self.failures, self.taken, lifetime, now) {
            Next::Wait(wait) => return Ok(wait),
            Next::Start(since) => since,
        };
        let others = whole.is_some_and(|run| !run.mine);
        if others && self.began.is_some_and(|began| began.elapsed() < TAKE_TURNS) {
            return Ok(DONE);
        }
        if since.is_none() {
            self.began = Some(Instant::now());
        }
        match begin(app, keys, params, since, id).await {
            // Another replica was quicker, and may be done already.
            Ok(_) | Err(ResignError::Conflict(_)) => Ok(due::BUSY),
            Err(error) => Err(error),
        }
    }
}

fn seen(run: &ResignRun, params: &ResignParams) -> Result<Seen, ResignError> {
    Ok(Seen {
        state: named(run.state.clone())?,
        mine: serde_json::from_value::<ResignParams>(run.params.clone())? == *params,
        began_at: run.began_at,
        finished_at: run.finished_at,
    })
}

/// What this server would bring narinfos in line with.
fn params(app: &App) -> (Arc<Keys>, ResignParams) {
    let in_force = app.keys.now();
    let KeysInForce { keys, revoked } = in_force.told();
    (in_force, ResignParams { keys, revoked })
}

/// Looks at all narinfos, or joins the run that does so.
pub async fn start(app: &Arc<App>) -> Result<ResignStatus, ResignError> {
    let (keys, params) = params(app);
    if params == ResignParams::default() {
        return Err(ResignError::NoKey);
    }
    let newest = db::resign_runs::find_newest(&mut *app.db.acquire().await?, false).await?;
    begin(app, keys, params, None, newest.map(|run| run.id)).await
}

/// Begins a run that follows on the one of the number `newest`, or joins the one that does.
async fn begin(
    app: &Arc<App>,
    in_force: Arc<Keys>,
    params: ResignParams,
    since: Option<OffsetDateTime>,
    newest: Option<i64>,
) -> Result<ResignStatus, ResignError> {
    let mut conn = app.db.acquire().await?;
    db::resign_runs::fail_silent(&mut conn, SILENCE).await?;
    let before = db::resign_runs::find_newest(&mut conn, true).await?;
    let before = before.filter(|run| since.is_none() && can_go_on(run)).filter(|run| {
        serde_json::from_value::<ResignParams>(run.params.clone()).is_ok_and(|theirs| theirs == params)
    });
    let mut state = State { since, ..State::default() };
    if let Some(before) = &before {
        state.counts = serde_json::from_value(before.counts.clone())?;
        state.after.clone_from(&before.after);
    }
    // Which ones were left is not known any more.
    if before.is_none() || state.counts.left > 0 || state.counts.failed > 0 {
        let total = u64::try_from(db::resign::count(&mut conn).await?).unwrap_or(0);
        state.after = None;
        state.counts = ResignCounts { total, signed: state.counts.signed, ..ResignCounts::default() };
    }
    let (asked, counts) = (serde_json::to_value(&params)?, serde_json::to_value(state.counts)?);
    let new = NewRun {
        params: &asked,
        since,
        began_at: before.as_ref().map(|run| run.began_at),
        counts: &counts,
        after: state.after.as_deref(),
        newest,
    };
    if let Some(row) = db::resign_runs::insert_running(&mut conn, &new).await? {
        let (id, status, task) = (row.id, status_of(row)?, Arc::clone(app));
        tracing::info!(run = id, keys = ?params.keys, revoked = ?params.revoked, after = state.after, "narinfos are looked at");
        app.gc.spawn(|stop| async move { run::run(&task, id, state, in_force, &stop).await });
        return Ok(status);
    }
    let active = db::resign_runs::find_newest(&mut conn, false).await?.ok_or(ResignError::Lost)?;
    let active = status_of(active)?;
    if active.params == params { Ok(active) } else { Err(ResignError::Conflict(active.started_at)) }
}

fn can_go_on(run: &ResignRun) -> bool {
    run.state == "failed" && run.finished_at.is_some_and(|at| OffsetDateTime::now_utc() - at < STALE)
}

/// The newest run over all narinfos.
pub async fn status(app: &App) -> Result<Option<ResignStatus>, ResignError> {
    let mut conn = app.db.acquire().await?;
    db::resign_runs::fail_silent(&mut conn, SILENCE).await?;
    db::resign_runs::find_newest(&mut conn, true).await?.map(status_of).transpose()
}

fn status_of(run: ResignRun) -> Result<ResignStatus, ResignError> {
    let state = named(run.state)?;
    let counts: ResignCounts = serde_json::from_value(run.counts)?;
    // What was pushed since it began may be among what was done.
    let remaining = if state == GcState::Succeeded { 0 } else { counts.total.saturating_sub(counts.done) };
    Ok(ResignStatus {
        id: run.id,
        state,
        params: serde_json::from_value(run.params)?,
        counts,
        remaining,
        error: run.error,
        started_at: run.began_at,
        updated_at: run.updated_at,
        finished_at: run.finished_at,
    })
}
