//! What `niks3-server fsck` reads and writes: rows in the order of their keys, and closures it adopted.

use sqlx::PgConnection;

use super::marks::Claimed;

/// One object's row.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its key.
    pub key: String,
    /// A commit has seen it in the bucket, and no collection has claimed it.
    pub live: bool,
    /// Bytes in the bucket, where known.
    pub stored_size: Option<i64>,
}

/// The next rows after a key, in the order S3 lists keys: by their bytes.
pub async fn list_rows(conn: &mut PgConnection, after: &str, limit: i64) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        "select key, live and deleting_since is null as \"live!\", stored_size from objects
         where key > $1 collate \"C\" order by key limit $2",
        after,
        limit
    )
    .fetch_all(conn)
    .await
}

/// One row.
pub async fn find_row(conn: &mut PgConnection, key: &str) -> sqlx::Result<Option<Row>> {
    sqlx::query_as!(
        Row,
        "select key, live and deleting_since is null as \"live!\", stored_size from objects where key = $1",
        key
    )
    .fetch_optional(conn)
    .await
}

/// The adopted closures that reach something the bucket does not have, or soon will not, or that has no row any more.
pub async fn list_incomplete_closures(
    conn: &mut PgConnection,
    adopted_by: &str,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "with recursive edges as materialized (select id, unnest(refs) as target from objects),
         lost (id) as materialized (
             select id from objects where not live or deleting_since is not null
             union
             select edges.id from edges left join objects there on there.id = edges.target where there.id is null
         ),
         broken (id) as (
             select id from lost
             union
             select edges.id from broken join edges on edges.target = broken.id
         )
         select c.key from closures c join objects o on o.key = c.key join broken on broken.id = o.id
         where c.pushed_by = $1 order by c.key",
        adopted_by
    )
    .fetch_all(conn)
    .await
}

/// The adopted closures that another one reaches: they stay for its sake.
pub async fn list_inner_closures(conn: &mut PgConnection, adopted_by: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "with recursive edges as materialized (select id, unnest(refs) as target from objects),
         reached (id) as (
             select edges.target from closures c join objects o on o.key = c.key join edges on edges.id = o.id
             where edges.target <> edges.id
             union
             select edges.target from reached join edges on edges.id = reached.id where edges.target <> edges.id
         )
         select c.key from closures c join objects o on o.key = c.key join reached on reached.id = o.id
         where c.pushed_by = $1 order by c.key",
        adopted_by
    )
    .fetch_all(conn)
    .await
}

/// Takes adopted closures back that no pin holds; gives those that went.
pub async fn delete_adopted_closures(
    conn: &mut PgConnection,
    keys: &[String],
    adopted_by: &str,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "with adopted as (
             select key from closures c where key = any($1) and pushed_by = $2
               and not exists (select from pins where pins.closure_key = c.key)
             order by key for update
         )
         delete from closures c using adopted where c.key = adopted.key returning c.key",
        keys,
        adopted_by
    )
    .fetch_all(conn)
    .await
}

/// Claims keys that have no row; gives those that had none.
pub async fn claim_strays(conn: &mut PgConnection, run: i64, keys: &[String]) -> sqlx::Result<Vec<Claimed>> {
    sqlx::query_as!(
        Claimed,
        "insert into objects (key, condemned_at, deleting_since, deleting_by)
         select stray.key, clock_timestamp(), clock_timestamp(), $1 from unnest($2::text[]) as stray (key)
         order by stray.key collate \"C\"
         on conflict (key) do nothing
         returning id, key, stored_size",
        run,
        keys
    )
    .fetch_all(conn)
    .await
}

/// The size an object turned out to have, whose content is what was committed.
pub async fn set_stored_size(conn: &mut PgConnection, key: &str, size: i64) -> sqlx::Result<()> {
    sqlx::query!("update objects set stored_size = $2 where key = $1 and live", key, size)
        .execute(conn)
        .await?;
    Ok(())
}

/// What a NAR is to hold: `(NAR, compression, hash, size)`.
pub async fn find_nar(
    conn: &mut PgConnection,
    key: &str,
) -> sqlx::Result<Option<(String, String, String, i64)>> {
    let row = sqlx::query!(
        "select nar_key, compression, nar_hash, nar_size from narinfos where nar_key = $1 limit 1",
        key
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.nar_key, row.compression, row.nar_hash, row.nar_size)))
}
