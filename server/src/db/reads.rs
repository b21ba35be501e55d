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

/// Forgets reads of what is no longer there.
pub async fn delete_orphans(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("delete from reads r where not exists (select from objects o where o.key = r.key)")
        .execute(conn)
        .await?;
    Ok(())
}
