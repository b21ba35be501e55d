//! `closures`: committed roots.

use sqlx::PgConnection;
use time::OffsetDateTime;

/// Commits roots, or makes committed ones new again.
pub async fn upsert(conn: &mut PgConnection, keys: &[String], pushed_by: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into closures (key, pushed_by)
         select root.key, $2 from unnest($1::text[]) as root (key) order by root.key collate \"C\"
         on conflict (key) do update set updated_at = now(), incomplete = false",
        keys,
        pushed_by
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes committed roots new again; gives those that were there, and of which nothing was lost.
pub async fn refresh(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "with present as (select key from closures where key = any($1) and not incomplete order by key for update)
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
