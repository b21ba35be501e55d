//! Signing stored narinfos again, in `narinfos` and `objects`: what they say, and who may write them meanwhile.
//!
//! The claim is that of a commit (`writers.rs`), of what is live: `settles_at` alone, for until then no collection
//! deletes the object and nobody else writes it.

use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::interval;

/// A live narinfo.
#[derive(Debug, Clone)]
pub struct StoredNarinfo {
    /// Its key.
    pub key: String,
    /// Row id of its object.
    pub id: i64,
    /// The path.
    pub store_path: String,
    /// Key of the NAR.
    pub nar_key: String,
    /// By its name in narinfos.
    pub compression: String,
    /// sha256 of the NAR.
    pub nar_hash: String,
    /// Bytes of the NAR.
    pub nar_size: i64,
    /// Whole paths.
    pub refs: Vec<String>,
    /// Whole path.
    pub deriver: Option<String>,
    /// Content address.
    pub ca: Option<String>,
    /// Those in it.
    pub signatures: Vec<String>,
    /// Who pushed it.
    pub pushed_by: String,
    /// When: it changes with every commit that writes it.
    pub pushed_at: OffsetDateTime,
    /// Somebody set out to write it anew and did not say how that ended.
    pub unsure: bool,
}

/// The next live narinfos after a key, by key; where `since` is given, of those pushed since.
pub async fn list_after(
    conn: &mut PgConnection,
    after: &str,
    since: Option<OffsetDateTime>,
    limit: i64,
) -> sqlx::Result<Vec<StoredNarinfo>> {
    sqlx::query_as!(
        StoredNarinfo,
        "select n.key, o.id, n.store_path, n.nar_key, n.compression, n.nar_hash, n.nar_size, n.refs, n.deriver,
                n.ca, n.signatures, n.pushed_by, n.pushed_at, o.stored_size is null as \"unsure!\"
         from narinfos n join objects o on o.key = n.key
         where n.key > $1 collate \"C\" and o.live and o.deleting_since is null
           and ($2::timestamptz is null or n.pushed_at >= $2)
         order by n.key limit $3",
        after,
        since,
        limit
    )
    .fetch_all(conn)
    .await
}

/// Those of the keys that are live.
pub async fn list(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<Vec<StoredNarinfo>> {
    sqlx::query_as!(
        StoredNarinfo,
        "select n.key, o.id, n.store_path, n.nar_key, n.compression, n.nar_hash, n.nar_size, n.refs, n.deriver,
                n.ca, n.signatures, n.pushed_by, n.pushed_at, o.stored_size is null as \"unsure!\"
         from narinfos n join objects o on o.key = n.key
         where n.key = any($1) and o.live and o.deleting_since is null
         order by n.key",
        keys
    )
    .fetch_all(conn)
    .await
}

/// How many narinfos there are.
pub async fn count(conn: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!("select count(*) as \"count!\" from narinfos").fetch_one(conn).await
}

/// Claims those that are as they were read, live, and not being written or deleted, until `settles` from now; gives
/// that time and their ids. Their size is unknown from here on: whoever finds it so writes them again.
pub async fn claim(
    conn: &mut PgConnection,
    narinfos: &[&StoredNarinfo],
    settles: Duration,
) -> sqlx::Result<(OffsetDateTime, Vec<i64>)> {
    let until =
        sqlx::query_scalar!("select clock_timestamp() + $1::interval as \"until!\"", interval(settles));
    let until = until.fetch_one(&mut *conn).await?;
    let ids: Vec<i64> = narinfos.iter().map(|narinfo| narinfo.id).collect();
    let pushed: Vec<OffsetDateTime> = narinfos.iter().map(|narinfo| narinfo.pushed_at).collect();
    let signatures: Vec<String> = narinfos.iter().map(|narinfo| narinfo.signatures.join(" ")).collect();
    let claimed = sqlx::query_scalar!(
        "with claimable as (
             select o.id from unnest($1::bigint[], $2::timestamptz[], $3::text[]) as read (id, pushed_at, signatures)
             join objects o on o.id = read.id
             join narinfos n on n.key = o.key
             where o.live and o.deleting_since is null
               and (o.settles_at is null or o.settles_at < clock_timestamp())
               and n.pushed_at = read.pushed_at and array_to_string(n.signatures, ' ') = read.signatures
             order by o.key for update of o, n
         )
         update objects o set settles_at = $4, stored_size = null
         from claimable where o.id = claimable.id returning o.id",
        &ids,
        &pushed,
        &signatures,
        until
    );
    Ok((until, claimed.fetch_all(conn).await?))
}

/// What became of what was claimed.
#[derive(Debug, Default)]
pub struct Written {
    /// Row ids.
    pub ids: Vec<i64>,
    /// Stored bytes of each.
    pub sizes: Vec<i64>,
    /// The signatures in each, separated by spaces.
    pub signatures: Vec<String>,
    /// Whether no request to write it is under way any more.
    pub settled: Vec<bool>,
}

/// Notes what was written, where the claim is still the one that ends at `until`.
pub async fn settle(conn: &mut PgConnection, written: &Written, until: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        "with written as (
             select * from unnest($1::bigint[], $2::bigint[], $3::text[], $4::bool[])
                 as written (id, size, signatures, settled)
         ), mine as (
             select o.id from objects o join written on written.id = o.id
             where o.settles_at = $5 order by o.key for update of o
         ), sized as (
             update objects o set stored_size = case when o.live then written.size end,
                 settles_at = case when written.settled then null else o.settles_at end
             from written join mine on mine.id = written.id
             where o.id = written.id returning o.key, o.live, written.signatures
         )
         update narinfos n set signatures = string_to_array(sized.signatures, ' ')
         from sized where n.key = sized.key and sized.live",
        &written.ids,
        &written.sizes,
        &written.signatures,
        &written.settled,
        until
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives up claims of what was not written and never will be.
pub async fn release(conn: &mut PgConnection, ids: &[i64], until: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        "with mine as (
             select id from objects where id = any($1) and settles_at = $2 order by key for update
         )
         update objects o set settles_at = null from mine where o.id = mine.id",
        ids,
        until
    )
    .execute(conn)
    .await?;
    Ok(())
}
