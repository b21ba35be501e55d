//! `gc_runs`: every collection there was, and the one there is.

use std::time::Duration;

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::interval;

/// A collection's row.
#[derive(Debug)]
pub struct GcRun {
    /// Its number.
    pub id: i64,
    /// `running`, `succeeded` or `failed`.
    pub state: String,
    /// What it is doing, or did last.
    pub phase: String,
    /// What it was asked for.
    pub params: Value,
    /// What it did so far.
    pub stats: Value,
    /// What was changed about the request to keep it safe.
    pub warnings: Vec<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// Why it failed, for programs.
    pub reason: Option<String>,
    /// What it found to keep and to delete.
    pub plan: Option<Value>,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// When it last gave a sign of life.
    pub updated_at: OffsetDateTime,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
}

/// Starts a run, unless one is running.
pub async fn insert_running(
    conn: &mut PgConnection,
    phase: &str,
    params: &Value,
    stats: &Value,
    warnings: &[String],
) -> sqlx::Result<Option<GcRun>> {
    sqlx::query_as!(
        GcRun,
        "insert into gc_runs (state, phase, params, stats, warnings) values ('running', $1, $2, $3, $4)
         on conflict do nothing
         returning id, state, phase, params, stats, warnings, error, reason, plan,
                started_at, updated_at, finished_at",
        phase,
        params,
        stats,
        warnings
    )
    .fetch_optional(conn)
    .await
}

/// The newest run.
pub async fn find_latest(conn: &mut PgConnection) -> sqlx::Result<Option<GcRun>> {
    sqlx::query_as!(
        GcRun,
        "select id, state, phase, params, stats, warnings, error, reason, plan,
                started_at, updated_at, finished_at
         from gc_runs order by id desc limit 1"
    )
    .fetch_optional(conn)
    .await
}

/// One run.
pub async fn find(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<GcRun>> {
    sqlx::query_as!(
        GcRun,
        "select id, state, phase, params, stats, warnings, error, reason, plan, started_at, updated_at, finished_at
         from gc_runs where id = $1",
        id
    )
    .fetch_optional(conn)
    .await
}

/// The newest runs first, without their plans.
pub async fn list(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<GcRun>> {
    sqlx::query_as!(
        GcRun,
        "select id, state, phase, params, stats, warnings, error, reason, null::jsonb as plan, started_at,
                updated_at, finished_at
         from gc_runs order by id desc limit $1",
        limit
    )
    .fetch_all(conn)
    .await
}

/// Deletes all runs but the newest.
pub async fn delete_all_but(conn: &mut PgConnection, newest: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from gc_runs where id <= (select max(id) from gc_runs) - $1 and state <> 'running'",
        newest
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Asks the running one to end; its number, where one is running.
pub async fn request_abort(conn: &mut PgConnection) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!("update gc_runs set abort_requested = true where state = 'running' returning id")
        .fetch_optional(conn)
        .await
}

/// Notes progress, which is also a sign of life; whether somebody wants the run to end, or `None` where it is no
/// longer this server's.
pub async fn update(
    conn: &mut PgConnection,
    id: i64,
    phase: &str,
    stats: &Value,
) -> sqlx::Result<Option<bool>> {
    sqlx::query_scalar!(
        "update gc_runs set phase = $2, stats = $3, updated_at = now() where id = $1 and state = 'running'
         returning abort_requested",
        id,
        phase,
        stats
    )
    .fetch_optional(conn)
    .await
}

/// Keeps what a run found.
pub async fn set_plan(conn: &mut PgConnection, id: i64, plan: &Value) -> sqlx::Result<()> {
    sqlx::query!("update gc_runs set plan = $2, updated_at = now() where id = $1", id, plan)
        .execute(conn)
        .await?;
    Ok(())
}

/// How a run ended.
#[derive(Debug)]
pub struct End<'a> {
    /// Why it failed.
    pub error: Option<&'a str>,
    /// The same, for programs.
    pub reason: Option<&'a str>,
    /// What went wrong and did not end it.
    pub warnings: &'a [String],
}

/// Ends a run; an error makes it failed.
pub async fn finish(
    conn: &mut PgConnection,
    id: i64,
    phase: &str,
    stats: &Value,
    end: &End<'_>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update gc_runs set phase = $2, stats = $3, error = $4, reason = $5,
             state = case when $4::text is null then 'succeeded' else 'failed' end,
             warnings = warnings || $6, updated_at = now(), finished_at = now()
         where id = $1 and state = 'running'",
        id,
        phase,
        stats,
        end.error,
        end.reason,
        end.warnings
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends runs that gave no sign of life for so long: their server died.
pub async fn fail_silent(conn: &mut PgConnection, silence: Duration) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "update gc_runs set state = 'failed', finished_at = now(),
             error = 'the server that ran it stopped; what it claimed is taken over by the next run'
         where state = 'running' and updated_at < now() - $1::interval",
        interval(silence)
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
