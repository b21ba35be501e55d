//! `closures`: committed roots.

use sqlx::PgConnection;
use time::OffsetDateTime;

/// Commits roots, or makes committed ones new again: they are whose push was the last.
pub async fn upsert(conn: &mut PgConnection, keys: &[String], pushed_by: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into closures (key, pushed_by)
         select root.key, $2 from unnest($1::text[]) as root (key) order by root.key collate \"C\"
         on conflict (key) do update set updated_at = now(), incomplete = false, pushed_by = excluded.pushed_by",
        keys,
        pushed_by
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The same of roots that were adopted: one that somebody pushed stays theirs, and so goes by no later adoption.
pub async fn adopt(conn: &mut PgConnection, keys: &[String], adopted_by: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into closures (key, pushed_by)
         select root.key, $2 from unnest($1::text[]) as root (key) order by root.key collate \"C\"
         on conflict (key) do update set updated_at = now(), incomplete = false",
        keys,
        adopted_by
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes committed roots new again, as a push of them would; gives those that were there, and of which nothing was lost.
pub async fn refresh(conn: &mut PgConnection, keys: &[String], pushed_by: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "with present as (select key from closures where key = any((select $1::text[])::text[]) and not incomplete order by key for update)
         update closures c set updated_at = now(), pushed_by = $2 from present where c.key = present.key returning c.key",
        keys,
        pushed_by
    )
    .fetch_all(conn)
    .await
}

/// When a root was last pushed or refreshed.
pub async fn find_updated_at(conn: &mut PgConnection, key: &str) -> sqlx::Result<Option<OffsetDateTime>> {
    sqlx::query_scalar!("select updated_at from closures where key = $1", key).fetch_optional(conn).await
}
