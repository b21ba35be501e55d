//! What a repair of `niks3-server fsck` reads and writes of what was lost, and of what leads there; `given_up`.

use sqlx::PgConnection;

use super::marks::Claimed;

/// A row that is not what it was said to be any more.
#[derive(Debug)]
pub struct Broken {
    /// Row id.
    pub id: i64,
    /// Its key.
    pub key: String,
    /// A narinfo: it is deleted too.
    pub narinfo: bool,
    /// No write of it may be under way.
    pub settled: bool,
}

/// What is live of the keys, for a repair to give up; locked until the transaction ends.
pub async fn lock_lost(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<Vec<Broken>> {
    sqlx::query_as!(
        Broken,
        "select id, key, key like '%.narinfo' as \"narinfo!\",
             settles_at is null or settles_at < clock_timestamp() as \"settled!\"
         from objects where key = any($1) and live and deleting_since is null order by key for update",
        keys
    )
    .fetch_all(conn)
    .await
}

/// Those of the ids that are live and refer to what is not, or will not be; locked, and that too, until the
/// transaction ends. A commit that brings what they refer to back has that locked, and is waited for.
pub async fn lock_dependents(conn: &mut PgConnection, ids: &[i64]) -> sqlx::Result<Vec<Broken>> {
    sqlx::query_as!(
        Broken,
        "with dependent as materialized (
             select id, key, refs, settles_at from objects
             where id = any($1) and live and deleting_since is null order by key for update
         ),
         broken as materialized (
             select o.id from objects o
             where o.id in (select unnest(refs) from dependent) and (not o.live or o.deleting_since is not null)
             order by o.key for share
         )
         select d.id, d.key, d.key like '%.narinfo' as \"narinfo!\",
             d.settles_at is null or d.settles_at < clock_timestamp() as \"settled!\"
         from dependent d where exists (select from broken where broken.id = any(d.refs)) order by d.key",
        ids
    )
    .fetch_all(conn)
    .await
}

/// Everything live that leads to one of these objects as far as they are not; nearer ones come first, mostly.
pub async fn list_dependents(conn: &mut PgConnection, ids: &[i64]) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar!(
        "with recursive edges as materialized (select id, unnest(refs) as target from objects),
         broken (id) as (
             select id from objects where id = any($1) and (not live or deleting_since is not null)
             union
             select edges.id from broken join edges on edges.target = broken.id
         )
         select o.id from broken join objects o using (id) where o.live and o.deleting_since is null",
        ids
    )
    .fetch_all(conn)
    .await
}

/// Makes them expected.
pub async fn expect(conn: &mut PgConnection, ids: &[i64]) -> sqlx::Result<()> {
    sqlx::query!("update objects set live = false where id = any($1)", ids).execute(conn).await?;
    Ok(())
}

/// Claims them for deletion.
pub async fn claim(conn: &mut PgConnection, run: i64, ids: &[i64]) -> sqlx::Result<Vec<Claimed>> {
    sqlx::query_as!(
        Claimed,
        "update objects set deleting_since = clock_timestamp(), deleting_by = $1 where id = any($2)
         returning id, key, stored_size",
        run,
        ids
    )
    .fetch_all(conn)
    .await
}

/// Closures of these roots count as not pushed; how many are new.
pub async fn set_incomplete(conn: &mut PgConnection, roots: &[String]) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "with complete as (select key from closures where key = any($1) and not incomplete order by key for update)
         update closures c set incomplete = true from complete where c.key = complete.key",
        roots
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Narinfos that are no longer in the bucket, or that it will not delete, are expected.
pub async fn set_withdrawn(conn: &mut PgConnection, run: i64, ids: &[i64]) -> sqlx::Result<()> {
    sqlx::query!(
        "update objects set live = false, deleting_since = null, deleting_by = null
         where id = any($1) and deleting_by = $2",
        ids,
        run
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes what is broken until all that leads there is withdrawn.
pub async fn note(conn: &mut PgConnection, ids: &[i64]) -> sqlx::Result<()> {
    sqlx::query!("insert into given_up select unnest($1::bigint[]) on conflict do nothing", ids)
        .execute(conn)
        .await?;
    Ok(())
}

/// What is noted.
pub async fn list_noted(conn: &mut PgConnection) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar!("select object_id from given_up").fetch_all(conn).await
}

/// How much is noted, and the key of one of it that is still not there.
pub async fn count_noted(conn: &mut PgConnection) -> sqlx::Result<(i64, Option<String>)> {
    let row = sqlx::query!(
        "select count(*) as \"count!\", min(o.key) as key from given_up g join objects o on o.id = g.object_id
         where not o.live or o.deleting_since is not null"
    )
    .fetch_one(conn)
    .await?;
    Ok((row.count, row.key))
}

/// Forgets it.
pub async fn forget(conn: &mut PgConnection, ids: &[i64]) -> sqlx::Result<()> {
    sqlx::query!("delete from given_up where object_id = any($1)", ids).execute(conn).await?;
    Ok(())
}
