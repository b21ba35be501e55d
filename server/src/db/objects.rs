//! `objects`: what the bucket holds or was promised.

use sqlx::PgConnection;

/// Where an object stands, as far as a push must know.
#[derive(Debug, Clone)]
pub struct ObjectState {
    /// Row id.
    pub id: i64,
    /// Its key.
    pub key: String,
    /// A commit has seen it in the bucket.
    pub live: bool,
    /// A collection has claimed it.
    pub deleting: bool,
}

/// What a commit writes of an object it found in the bucket.
#[derive(Debug, Default)]
pub struct CommittedObjects {
    /// Row ids.
    pub ids: Vec<i64>,
    /// Bytes in the bucket.
    pub stored_sizes: Vec<i64>,
    /// Bytes of NARs, uncompressed.
    pub nar_sizes: Vec<Option<i64>>,
    /// Ids they refer to, as array literals: PostgreSQL has no ragged arrays.
    pub refs: Vec<String>,
}

/// Gives every key without a row one, as expected.
pub async fn insert_expected(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into objects (key)
         select wanted.key from unnest($1::text[]) as wanted (key)
         where not exists (select from objects o where o.key = wanted.key collate \"C\")
         order by wanted.key collate \"C\"
         on conflict (key) do nothing",
        keys
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Uncondemns what is condemned and not yet claimed.
pub async fn lift_condemnations(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<()> {
    sqlx::query!(
        "with condemned as (
             select id from objects
             where key = any($1) and condemned_at is not null and deleting_since is null
             order by key for update
         )
         update objects o set condemned_at = null from condemned
         where o.id = condemned.id and o.deleting_since is null",
        keys
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The states of the keys that have rows.
pub async fn list_states(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<Vec<ObjectState>> {
    sqlx::query_as!(
        ObjectState,
        "select id, key, live, deleting_since is not null as \"deleting!\" from objects where key = any($1)",
        keys
    )
    .fetch_all(conn)
    .await
}

/// Locks rows until the transaction ends, in the order of their keys.
pub async fn lock(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<()> {
    sqlx::query!("select id from objects where key = any($1) order by key for update", keys)
        .fetch_all(conn)
        .await?;
    Ok(())
}

/// Makes expected what the bucket was found not to hold.
pub async fn set_expected(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<()> {
    sqlx::query!(
        "with gone as (select id from objects where key = any($1) and live order by key for update)
         update objects o set live = false from gone where o.id = gone.id",
        keys
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes live, and uncondemned, what a commit found in the bucket.
pub async fn set_live(conn: &mut PgConnection, objects: &CommittedObjects) -> sqlx::Result<()> {
    sqlx::query!(
        "update objects o
         set live = true, stored_size = seen.stored_size, nar_size = coalesce(seen.nar_size, o.nar_size),
             refs = seen.refs::bigint[], condemned_at = null
         from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[])
             as seen (id, stored_size, nar_size, refs)
         where o.id = seen.id",
        &objects.ids,
        &objects.stored_sizes,
        &objects.nar_sizes as &[Option<i64>],
        &objects.refs
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether a commit has seen the object in the bucket and no collection has claimed it.
pub async fn is_live(conn: &mut PgConnection, key: &str) -> sqlx::Result<bool> {
    let found = sqlx::query_scalar!(
        "select exists (select from objects where key = $1 and live and deleting_since is null) as \"found!\"",
        key
    );
    found.fetch_one(conn).await
}

/// Everything the keys reach, themselves included.
pub async fn list_reachable(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "with recursive reached (id) as (
             select id from objects where key = any($1)
             union
             select unnest(o.refs) from reached join objects o using (id)
         )
         select o.key from reached join objects o using (id) order by o.key",
        keys
    )
    .fetch_all(conn)
    .await
}

/// Live objects, and the sum of their NARs' bytes.
pub async fn count_live(conn: &mut PgConnection) -> sqlx::Result<(i64, i64)> {
    let row = sqlx::query!(
        "select count(*) as \"objects!\", coalesce(sum(nar_size), 0)::bigint as \"bytes!\"
         from objects where live and deleting_since is null"
    )
    .fetch_one(conn)
    .await?;
    Ok((row.objects, row.bytes))
}
