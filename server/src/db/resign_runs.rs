//! `resign_runs`: every time stored narinfos were signed again.

use std::time::Duration;

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::interval;

/// A run's row.
#[derive(Debug)]
pub struct ResignRun {
    /// Its number.
    pub id: i64,
    /// `running`, `succeeded` or `failed`.
    pub state: String,
    /// What narinfos are brought in line with.
    pub params: Value,
    /// Only what was pushed since; all where there is none.
    pub since: Option<OffsetDateTime>,
    /// When the first of the runs began that it goes on with.
    pub began_at: OffsetDateTime,
    /// How far it is.
    pub counts: Value,
    /// Everything up to this key is done.
    pub after: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it last gave a sign of life.
    pub updated_at: OffsetDateTime,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
}

/// What a run begins with.
#[derive(Debug)]
pub struct NewRun<'a> {
    /// What narinfos are brought in line with.
    pub params: &'a Value,
    /// Only what was pushed since.
    pub since: Option<OffsetDateTime>,
    /// When the run began that it goes on with.
    pub began_at: Option<OffsetDateTime>,
    /// How far that was.
    pub counts: &'a Value,
    /// Everything up to this key is done.
    pub after: Option<&'a str>,
    /// The number of the newest run when this one was decided on.
    pub newest: Option<i64>,
}

/// Starts a run, unless one is running, or was begun since this one was decided on.
pub async fn insert_running(conn: &mut PgConnection, run: &NewRun<'_>) -> sqlx::Result<Option<ResignRun>> {
    sqlx::query_as!(
        ResignRun,
        "insert into resign_runs (state, params, since, began_at, counts, after)
         select 'running', $1, $2, coalesce($3, now()), $4, $5
         where not exists (select from resign_runs where id > coalesce($6::bigint, 0))
         on conflict do nothing
         returning id, state, params, since, began_at, counts, after, error, updated_at, finished_at",
        run.params,
        run.since,
        run.began_at,
        run.counts,
        run.after,
        run.newest
    )
    .fetch_optional(conn)
    .await
}

/// The newest run; where `whole`, of those that looked at all narinfos.
pub async fn find_newest(conn: &mut PgConnection, whole: bool) -> sqlx::Result<Option<ResignRun>> {
    sqlx::query_as!(
        ResignRun,
        "select id, state, params, since, began_at, counts, after, error, updated_at, finished_at
         from resign_runs where not $1 or since is null order by id desc limit 1",
        whole
    )
    .fetch_optional(conn)
    .await
}

/// Notes progress, which is also a sign of life; `None` where the run is no longer this server's.
pub async fn update(
    conn: &mut PgConnection,
    id: i64,
    counts: &Value,
    after: Option<&str>,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "update resign_runs set counts = $2, after = $3, updated_at = now()
         where id = $1 and state = 'running' returning id",
        id,
        counts,
        after
    )
    .fetch_optional(conn)
    .await
}

/// Ends a run; an error makes it failed.
pub async fn finish(conn: &mut PgConnection, id: i64, error: Option<&str>) -> sqlx::Result<()> {
    sqlx::query!(
        "update resign_runs set error = $2,
             state = case when $2::text is null then 'succeeded' else 'failed' end,
             updated_at = now(), finished_at = now()
         where id = $1 and state = 'running'",
        id,
        error
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends runs that gave no sign of life for so long: their server died.
pub async fn fail_silent(conn: &mut PgConnection, silence: Duration) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "update resign_runs set state = 'failed', finished_at = now(),
             error = 'the server that ran it stopped; another one goes on where it was'
         where state = 'running' and updated_at < now() - $1::interval",
        interval(silence)
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Deletes all runs but the newest.
pub async fn delete_all_but(conn: &mut PgConnection, newest: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from resign_runs where id <= (select max(id) from resign_runs) - $1 and state <> 'running'",
        newest
    )
    .execute(conn)
    .await?;
    Ok(())
}
