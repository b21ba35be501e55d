//! `objects`: what the bucket holds or was promised.

use sqlx::PgConnection;
use time::OffsetDateTime;

/// Where an object stands, as far as a push must know.
#[derive(Debug, Clone)]
pub struct ObjectState {
    /// Row id.
    pub id: i64,
    /// Its key.
    pub key: String,
    /// A commit has seen it in the bucket.
    pub live: bool,
    /// The last mark found nothing that reaches it.
    pub condemned: bool,
    /// A collection has claimed it.
    pub deleting: bool,
    /// The upload that may write it; narinfos have one until they are live.
    pub writing_by: Option<i64>,
}

/// What a commit writes of an object it found in the bucket.
#[derive(Debug, Default)]
pub struct CommittedObjects {
    /// Row ids.
    pub ids: Vec<i64>,
    /// Bytes in the bucket, of those that were looked for.
    pub stored_sizes: Vec<Option<i64>>,
    /// Bytes of NARs, uncompressed.
    pub nar_sizes: Vec<Option<i64>>,
    /// Ids they refer to, as array literals: PostgreSQL has no ragged arrays.
    pub refs: Vec<String>,
    /// Until when narinfos were claimed, where every request to write them was answered: then nothing is
    /// under way any more.
    pub settled: Option<OffsetDateTime>,
}

/// The states of the keys that have rows.
pub async fn list_states(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<Vec<ObjectState>> {
    sqlx::query_as!(
        ObjectState,
        "select id, key, live, condemned_at is not null as \"condemned!\",
             deleting_since is not null as \"deleting!\", writing_by
         from objects where key = any((select $1::text[])::text[])",
        keys
    )
    .fetch_all(conn)
    .await
}

/// The NARs' bytes of those of the keys that are live and have them.
pub async fn list_nar_sizes(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<Vec<(String, i64)>> {
    let rows = sqlx::query!(
        "select key, nar_size as \"nar_size!\" from objects
         where key = any((select $1::text[])::text[]) and live and nar_size is not null",
        keys
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.key, row.nar_size)).collect())
}

/// Locks `missing`, of `keys`, until the transaction ends, and uncondemns what of `keys` is condemned and not
/// yet claimed: in one go, so that all are locked in the order of their keys.
pub async fn lock_and_lift(conn: &mut PgConnection, keys: &[String], missing: &[String]) -> sqlx::Result<()> {
    sqlx::query!(
        "with locked as (
             select id from objects
             where key = any((select $1::text[])::text[])
               and (key in (select unnest($2::text[]) collate \"C\") or condemned_at is not null)
             order by key for update
         )
         update objects o set condemned_at = null from locked
         where o.id = locked.id and o.condemned_at is not null and o.deleting_since is null",
        keys,
        missing
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes expected what the bucket was found not to hold.
pub async fn set_expected(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<()> {
    sqlx::query!(
        "with gone as (select id from objects where key = any((select $1::text[])::text[]) and live order by key for update)
         update objects o set live = false from gone where o.id = gone.id",
        keys
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes live, and uncondemned, what a commit found in the bucket.
///
/// What is live already keeps its references and gains those it lacks: of two pushes at once of one path with
/// different content, either's narinfo may be the one in the bucket; and an object that was deleted and pushed
/// again has another id than the one its referrers knew.
pub async fn set_live(conn: &mut PgConnection, objects: &CommittedObjects) -> sqlx::Result<()> {
    sqlx::query!(
        "update objects o
         set live = true, stored_size = coalesce(seen.stored_size, o.stored_size),
             nar_size = coalesce(seen.nar_size, o.nar_size), condemned_at = null, writing_by = null,
             settles_at = case when o.settles_at = $5 then null else o.settles_at end,
             refs = case when o.live then array(
                 select distinct target from unnest(o.refs || seen.refs::bigint[]) as target
                 where exists (select from objects there where there.id = target)
             ) else seen.refs::bigint[] end
         from unnest((select $1::bigint[]), (select $2::bigint[]), (select $3::bigint[]), (select $4::text[]))
             as seen (id, stored_size, nar_size, refs)
         where o.id = seen.id and not (o.live and o.refs @> seen.refs::bigint[])",
        &objects.ids,
        &objects.stored_sizes as &[Option<i64>],
        &objects.nar_sizes as &[Option<i64>],
        &objects.refs,
        objects.settled
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
             select id from objects where key = any((select $1::text[])::text[])
             union
             select unnest(o.refs) from reached join objects o using (id)
         )
         select o.key from reached join objects o using (id) order by o.key",
        keys
    )
    .fetch_all(conn)
    .await
}

/// The rows of everything the keys reach, themselves included; without a key where a reference leads to none.
pub async fn list_reachable_rows(
    conn: &mut PgConnection,
    keys: &[String],
) -> sqlx::Result<Vec<(i64, Option<String>)>> {
    let rows = sqlx::query!(
        "with recursive reached (id) as (
             select id from objects where key = any((select $1::text[])::text[])
             union
             select unnest(o.refs) from reached join objects o using (id)
         )
         select reached.id as \"id!\", o.key as \"key?\"
         from reached left join objects o on o.id = reached.id",
        keys
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.key)).collect())
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

/// About how many rows there are, as PostgreSQL last counted; 0 where it has not yet.
pub async fn estimate_count(conn: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        "select greatest(reltuples, 0)::bigint as \"rows!\" from pg_class where oid = 'objects'::regclass"
    )
    .fetch_one(conn)
    .await
}
