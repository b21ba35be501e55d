//! `reads`: the day on which a narinfo was last read through the server.

use sqlx::PgConnection;
use time::Date;

/// Notes that these were read on that day.
pub async fn upsert(conn: &mut PgConnection, keys: &[String], day: Date) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into reads (key, read_on)
         select key, $2 from unnest($1::text[]) as read (key) order by key collate \"C\"
         on conflict (key) do update set read_on = excluded.read_on where reads.read_on < excluded.read_on",
        keys,
        day
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The first reads after a key whose narinfo is no longer there, by key.
pub async fn list_orphans(conn: &mut PgConnection, after: &str, limit: i64) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "select key from reads r where key > $1 collate \"C\"
           and not exists (select from objects o where o.key = r.key) order by key limit $2",
        after,
        limit
    )
    .fetch_all(conn)
    .await
}

/// Forgets those of the reads whose narinfo is no longer there.
pub async fn delete_orphans(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from reads r where key = any($1) and not exists (select from objects o where o.key = r.key)",
        keys
    )
    .execute(conn)
    .await?;
    Ok(())
}
