//! `pins`: names for closures that every collection keeps.

use niks3_protocol::api::pins::Pin;
use sqlx::PgConnection;

/// All pins, by name.
pub async fn list(conn: &mut PgConnection) -> sqlx::Result<Vec<Pin>> {
    sqlx::query_as!(Pin, "select name, store_path, created_at, updated_at from pins order by name")
        .fetch_all(conn)
        .await
}

/// Points a name at a committed closure, which the caller has refreshed in the same transaction.
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
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes a name; whether it was there.
pub async fn delete(conn: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!("delete from pins where name = $1", name).execute(conn).await?;
    Ok(done.rows_affected() == 1)
}
