//! What `niks3-server fsck` reads and writes: rows in the order of their keys, and closures it adopted.

use sqlx::PgConnection;

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

/// Takes back the adopted closures that reach something the bucket does not have; gives them.
pub async fn delete_incomplete_closures(
    conn: &mut PgConnection,
    adopted_by: &str,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "with recursive edges as materialized (select id, unnest(refs) as target from objects),
         broken (id) as (
             select id from objects where not live
             union
             select edges.id from broken join edges on edges.target = broken.id
         )
         delete from closures c using objects o, broken
         where o.key = c.key and o.id = broken.id and c.pushed_by = $1
           and not exists (select from pins where pins.closure_key = c.key)
         returning c.key",
        adopted_by
    )
    .fetch_all(conn)
    .await
}

/// Takes back the adopted closures that another one reaches: they stay for its sake.
pub async fn delete_inner_closures(conn: &mut PgConnection, adopted_by: &str) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "with recursive edges as materialized (select id, unnest(refs) as target from objects),
         reached (id) as (
             select edges.target from closures c join objects o on o.key = c.key join edges on edges.id = o.id
             where edges.target <> edges.id
             union
             select edges.target from reached join edges on edges.id = reached.id where edges.target <> edges.id
         )
         delete from closures c using objects o, reached
         where o.key = c.key and o.id = reached.id and c.pushed_by = $1
           and not exists (select from pins where pins.closure_key = c.key)",
        adopted_by
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
