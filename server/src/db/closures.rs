//! `closures`: committed roots.

use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::interval;

/// Commits roots, or makes committed ones new again.
pub async fn upsert(conn: &mut PgConnection, keys: &[String], pushed_by: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into closures (key, pushed_by)
         select root.key, $2 from unnest($1::text[]) as root (key) order by root.key collate \"C\"
         on conflict (key) do update set updated_at = now()",
        keys,
        pushed_by
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes committed roots new again; gives those that were there.
pub async fn refresh(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "with present as (select key from closures where key = any($1) order by key for update)
         update closures c set updated_at = now() from present where c.key = present.key returning c.key",
        keys
    )
    .fetch_all(conn)
    .await
}

/// When a root was last pushed or refreshed.
pub async fn find_updated_at(conn: &mut PgConnection, key: &str) -> sqlx::Result<Option<OffsetDateTime>> {
    sqlx::query_scalar!("select updated_at from closures where key = $1", key).fetch_optional(conn).await
}

/// Deletes at most `limit` roots neither pinned nor refreshed for so long; how many went.
///
/// A refresh or a pin that comes between the search and the lock makes the row new, so it stays.
pub async fn delete_old(conn: &mut PgConnection, older_than: Duration, limit: i64) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "with old as (
             select key from closures c
             where updated_at < now() - $1::interval
               and not exists (select from pins where pins.closure_key = c.key)
             order by key limit $2 for update skip locked
         )
         delete from closures c using old where c.key = old.key",
        interval(older_than),
        limit
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
