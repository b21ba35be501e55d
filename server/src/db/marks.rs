//! Marking and sweeping in `objects`: what a collection reads in one snapshot, and the guarded writes it makes.

use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::interval;

/// Rows that callers let one statement change at most: pushes that want one of them wait until it ends, which is some
/// milliseconds then, and on a busy machine less than a hundred (e2e/gc-bench).
pub const STATEMENT: usize = 200;

/// One object as a snapshot shows it.
#[derive(Debug)]
pub struct MarkRow {
    /// Row id.
    pub id: i64,
    /// Ids it refers to.
    pub refs: Vec<i64>,
    /// Since when nothing reached it.
    pub condemned_at: Option<OffsetDateTime>,
    /// A collection has claimed it.
    pub deleting: bool,
    /// A commit has seen it in the bucket.
    pub live: bool,
    /// Bytes in the bucket, as far as known.
    pub stored_size: i64,
    /// It is a narinfo: those are deleted before what they point to.
    pub narinfo: bool,
}

/// An object claimed for deletion.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Row id.
    pub id: i64,
    /// Its key.
    pub key: String,
    /// Bytes in the bucket, where known.
    pub stored_size: Option<i64>,
}

/// Makes the transaction one snapshot; gives the database's time in it.
pub async fn begin_snapshot(conn: &mut PgConnection) -> sqlx::Result<OffsetDateTime> {
    sqlx::query!("set transaction isolation level repeatable read, read only").execute(&mut *conn).await?;
    sqlx::query_scalar!("select now() as \"now!\"").fetch_one(conn).await
}

/// The next objects after an id, by id.
pub async fn list_objects(conn: &mut PgConnection, after: i64, limit: i64) -> sqlx::Result<Vec<MarkRow>> {
    sqlx::query_as!(
        MarkRow,
        "select id, refs, condemned_at, deleting_since is not null as \"deleting!\", live,
                coalesce(stored_size, 0) as \"stored_size!\", key like '%.narinfo' as \"narinfo!\"
         from objects where id > $1 order by id limit $2",
        after,
        limit
    )
    .fetch_all(conn)
    .await
}

/// Condemns what is not yet condemned; how many that were. All since the time of the snapshot that showed it: what leads
/// to each other becomes ripe together.
pub async fn condemn(conn: &mut PgConnection, ids: &[i64], since: OffsetDateTime) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "with unreached as (
             select id from objects
             where id = any($1) and condemned_at is null and deleting_since is null
             order by key for update
         )
         update objects o set condemned_at = $2 from unreached where o.id = unreached.id",
        ids,
        since
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Lifts the condemnation of what is reached again and not yet claimed.
pub async fn uncondemn(conn: &mut PgConnection, ids: &[i64]) -> sqlx::Result<()> {
    sqlx::query!(
        "with reached as (
             select id from objects
             where id = any($1) and condemned_at is not null and deleting_since is null
             order by key for update
         )
         update objects o set condemned_at = null from reached where o.id = reached.id",
        ids
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Claims those that are still condemned since exactly when the snapshot said. Whatever began or committed an
/// upload of them after that snapshot has lifted the condemnation, and so defeats the claim. What a write may
/// still be under way to is left: it would come back.
pub async fn claim(
    conn: &mut PgConnection,
    run: i64,
    ids: &[i64],
    condemned_since: &[OffsetDateTime],
) -> sqlx::Result<Vec<Claimed>> {
    sqlx::query_as!(
        Claimed,
        "with candidate as (
             select o.id from objects o
             join unnest($2::bigint[], $3::timestamptz[]) as wanted (id, since) on wanted.id = o.id
             where o.condemned_at = wanted.since and o.deleting_since is null
               and (o.settles_at is null or o.settles_at < clock_timestamp())
             order by o.key for update of o
         )
         update objects o set deleting_since = clock_timestamp(), deleting_by = $1
         from candidate where o.id = candidate.id
         returning o.id, o.key, o.stored_size",
        run,
        ids,
        condemned_since
    )
    .fetch_all(conn)
    .await
}

/// Takes over claims made longer ago than `settle`: their sweeper died, or its delete got no answer; either
/// way that delete has happened or never will.
///
/// The claims are looked up first and by themselves: no index serves a comparison with `clock_timestamp()`, and
/// ordered by key the planner would read the whole table for them.
pub async fn take_over(
    conn: &mut PgConnection,
    run: i64,
    settle: Duration,
    limit: i64,
) -> sqlx::Result<Vec<Claimed>> {
    sqlx::query_as!(
        Claimed,
        "with claimed as materialized (select id from objects where deleting_since is not null),
         stale as (
             select o.id from objects o join claimed using (id)
             where o.deleting_since < clock_timestamp() - $2::interval
             order by o.key limit $3 for update of o skip locked
         )
         update objects o set deleting_since = clock_timestamp(), deleting_by = $1
         from stale where o.id = stale.id
         returning o.id, o.key, o.stored_size",
        run,
        interval(settle),
        limit
    )
    .fetch_all(conn)
    .await
}

/// Removes the rows of what the bucket confirmed deleted, as far as this run still holds the claim. A root that fsck
/// withdrew, and whose claim was taken over, is expected: its closure is there, and is pushed again. So is what a
/// repair that was interrupted has noted: by its row that finds what leads there.
pub async fn remove(conn: &mut PgConnection, run: i64, ids: &[i64]) -> sqlx::Result<()> {
    sqlx::query!(
        "update objects o set live = false, deleting_since = null, deleting_by = null
         where o.id = any($1) and o.deleting_by = $2
           and (exists (select from closures c where c.key = o.key and c.incomplete)
             or exists (select from given_up g where g.object_id = o.id))",
        ids,
        run
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!("delete from objects where id = any($1) and deleting_by = $2", ids, run)
        .execute(conn)
        .await?;
    Ok(())
}

/// Gives back what the bucket definitely refused to delete: as expected, so that a push uploads it anew, and
/// condemned.
pub async fn give_back(conn: &mut PgConnection, run: i64, ids: &[i64]) -> sqlx::Result<()> {
    sqlx::query!(
        "update objects set deleting_since = null, deleting_by = null, live = false,
             condemned_at = clock_timestamp()
         where id = any($1) and deleting_by = $2",
        ids,
        run
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives the space of deleted rows back to the tables. Their files do not get shorter: for that nobody could read them
/// meanwhile.
pub async fn vacuum(conn: &mut PgConnection) -> sqlx::Result<()> {
    let vacuum = "vacuum (analyze, truncate off) objects, uploads, signed_narinfos, multipart_uploads, closures, \
                  narinfos, pin_revisions, reads, gc_runs";
    sqlx::raw_sql(vacuum).execute(conn).await?;
    Ok(())
}
