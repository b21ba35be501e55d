//! `fsck_runs`: every comparison of bucket and rows there was, and the one there is.

use std::time::Duration;

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::interval;

/// A run's row.
#[derive(Debug)]
pub struct FsckRun {
    /// Its number.
    pub id: i64,
    /// `running`, `succeeded` or `failed`.
    pub state: String,
    /// What it is doing, or did last.
    pub phase: String,
    /// What it was asked for.
    pub params: Value,
    /// What it compared and found.
    pub summary: Value,
    /// The first of what it found.
    pub findings: Value,
    /// Everything up to this key is compared.
    pub after: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// Why it failed, for programs.
    pub reason: Option<String>,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// When it last gave a sign of life.
    pub updated_at: OffsetDateTime,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
}

/// Where a run is.
#[derive(Debug)]
pub struct At<'a> {
    /// What it is doing.
    pub phase: &'a str,
    /// What it compared and found.
    pub summary: &'a Value,
    /// The first of what it found; `None` where that is as it was.
    pub findings: Option<&'a Value>,
    /// Everything up to this key is compared.
    pub after: Option<&'a str>,
}

/// Starts a run, unless one is running.
pub async fn insert_running(
    conn: &mut PgConnection,
    params: &Value,
    at: &At<'_>,
) -> sqlx::Result<Option<FsckRun>> {
    sqlx::query_as!(
        FsckRun,
        "insert into fsck_runs (state, phase, params, summary, findings, after)
         values ('running', $1, $2, $3, coalesce($4, '[]'::jsonb), $5)
         on conflict do nothing
         returning id, state, phase, params, summary, findings, after, error, reason, started_at, updated_at,
                finished_at",
        at.phase,
        params,
        at.summary,
        at.findings,
        at.after
    )
    .fetch_optional(conn)
    .await
}

/// The run of this number.
pub async fn find(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<FsckRun>> {
    sqlx::query_as!(
        FsckRun,
        "select id, state, phase, params, summary, findings, after, error, reason, started_at, updated_at,
                finished_at
         from fsck_runs where id = $1",
        id
    )
    .fetch_optional(conn)
    .await
}

/// The newest runs first.
pub async fn list(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<FsckRun>> {
    sqlx::query_as!(
        FsckRun,
        "select id, state, phase, params, summary, findings, after, error, reason, started_at, updated_at,
                finished_at
         from fsck_runs order by id desc limit $1",
        limit
    )
    .fetch_all(conn)
    .await
}

/// Deletes all runs but the newest.
pub async fn delete_all_but(conn: &mut PgConnection, newest: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from fsck_runs where id <= (select max(id) from fsck_runs) - $1 and state <> 'running'",
        newest
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Asks the running one to end; its number, where one is running.
pub async fn request_abort(conn: &mut PgConnection) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!("update fsck_runs set abort_requested = true where state = 'running' returning id")
        .fetch_optional(conn)
        .await
}

/// Notes progress, which is also a sign of life; whether somebody wants the run to end, or `None` where it is no
/// longer this server's.
pub async fn update(conn: &mut PgConnection, id: i64, at: &At<'_>) -> sqlx::Result<Option<bool>> {
    sqlx::query_scalar!(
        "update fsck_runs set phase = $2, summary = $3, findings = coalesce($4, findings), after = $5,
             updated_at = now()
         where id = $1 and state = 'running'
         returning abort_requested",
        id,
        at.phase,
        at.summary,
        at.findings,
        at.after
    )
    .fetch_optional(conn)
    .await
}

/// Ends a run; an error makes it failed.
pub async fn finish(
    conn: &mut PgConnection,
    id: i64,
    error: Option<&str>,
    reason: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update fsck_runs set error = $2, reason = $3,
             state = case when $2::text is null then 'succeeded' else 'failed' end,
             updated_at = now(), finished_at = now()
         where id = $1 and state = 'running'",
        id,
        error,
        reason
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends runs that gave no sign of life for so long: their server died.
pub async fn fail_silent(conn: &mut PgConnection, silence: Duration) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "update fsck_runs set state = 'failed', finished_at = now(),
             error = 'the server that ran it stopped; the next run of the same kind goes on where it was'
         where state = 'running' and updated_at < now() - $1::interval",
        interval(silence)
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
