//! `pins`: names for closures that every collection keeps.

use niks3_protocol::api::pins::Pin;
use sqlx::PgConnection;

/// All pins, by name.
pub async fn list(conn: &mut PgConnection) -> sqlx::Result<Vec<Pin>> {
    sqlx::query_as!(Pin, "select name, store_path, created_at, updated_at from pins order by name")
        .fetch_all(conn)
        .await
}

/// Points a name at a committed closure, which the caller has refreshed in the same transaction. What it pointed to
/// before stays known as a revision.
pub async fn upsert(
    conn: &mut PgConnection,
    name: &str,
    closure_key: &str,
    store_path: &str,
    written_by: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into pins (name, closure_key, store_path, written_by) values ($1, $2, $3, $4)
         on conflict (name) do update set closure_key = excluded.closure_key,
             store_path = excluded.store_path, written_by = excluded.written_by, updated_at = now()",
        name,
        closure_key,
        store_path,
        written_by
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into pin_revisions (name, closure_key, written_at) values ($1, $2, clock_timestamp())
         on conflict (name, closure_key) do update set written_at = excluded.written_at",
        name,
        closure_key
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Those of the names that are pins: `(name, store path)`.
pub async fn find(conn: &mut PgConnection, names: &[String]) -> sqlx::Result<Vec<(String, String)>> {
    let rows =
        sqlx::query!("select name, store_path from pins where name = any($1)", names).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|row| (row.name, row.store_path)).collect())
}

/// Removes a name; whether it was there.
pub async fn delete(conn: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!("delete from pins where name = $1", name).execute(conn).await?;
    Ok(done.rows_affected() == 1)
}
