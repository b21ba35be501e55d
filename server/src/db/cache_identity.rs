//! `cache_identity`: which cache this is.

use sqlx::PgConnection;

/// The identity, made up where there is none yet.
pub async fn find_or_create(conn: &mut PgConnection) -> sqlx::Result<String> {
    sqlx::query!(
        "insert into cache_identity (id) values (gen_random_uuid()::text) on conflict (only_one) do nothing"
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query_scalar!("select id from cache_identity").fetch_one(conn).await
}

/// Makes it another, if nothing was ever committed here; whether it did.
pub async fn replace(conn: &mut PgConnection, id: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update cache_identity set id = $1 where not exists (select from objects where live)
         and not exists (select from closures)",
        id
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}
