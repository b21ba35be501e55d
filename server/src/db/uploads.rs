//! `uploads`: pushes in progress.

use std::time::Duration;

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::interval;

/// A new upload.
#[derive(Debug)]
pub struct NewUpload<'a> {
    /// Who began it.
    pub owner: &'a str,
    /// What is known of who began it.
    pub origin: &'a Value,
    /// Keys of its roots.
    pub roots: &'a [String],
    /// All its keys.
    pub keys: &'a [String],
    /// How long its addresses live.
    pub addresses: Duration,
    /// Its client sends narinfos of its own.
    pub staged: bool,
}

/// An upload's row.
#[derive(Debug)]
pub struct Upload {
    /// Who began it.
    pub owner: String,
    /// What is known of who began it.
    pub origin: Value,
    /// Keys of its roots.
    pub roots: Vec<String>,
    /// All its keys.
    pub keys: Vec<String>,
    /// Its objects, as JSON.
    pub plan: Vec<u8>,
    /// Keys that were not live at begin.
    pub missing: Vec<String>,
    /// Its client sends narinfos of its own.
    pub staged: bool,
    /// When it began.
    pub started_at: OffsetDateTime,
}

/// Writes an upload with all its keys, which are safe from then on; gives its id and when it began. [`open`] it next.
pub async fn insert(conn: &mut PgConnection, upload: &NewUpload<'_>) -> sqlx::Result<(i64, OffsetDateTime)> {
    let row = sqlx::query!(
        "insert into uploads (owner, origin, roots, keys, plan, addresses_until, staged)
         values ($1, $2, $3, $4, '', now() + $5::interval, $6) returning id, started_at",
        upload.owner,
        upload.origin,
        upload.roots,
        upload.keys,
        interval(upload.addresses),
        upload.staged
    )
    .fetch_one(conn)
    .await?;
    Ok((row.id, row.started_at))
}

/// Reads an upload.
pub async fn find(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<Upload>> {
    sqlx::query_as!(
        Upload,
        "select owner, origin, roots, keys, plan, missing, staged, started_at from uploads where id = $1",
        id
    )
    .fetch_optional(conn)
    .await
}

/// Who began an upload, and those of the keys that it has to send.
pub async fn find_missing(
    conn: &mut PgConnection,
    id: i64,
    keys: &[String],
) -> sqlx::Result<Option<(String, Vec<String>)>> {
    let found = sqlx::query!(
        "select owner, array(select key from unnest(missing) as key where key in (select unnest($2::text[]))) as \"missing!\"
         from uploads where id = $1",
        id,
        keys
    )
    .fetch_optional(conn)
    .await?;
    Ok(found.map(|row| (row.owner, row.missing)))
}

/// Locks an upload until the transaction ends; whether it is sealed, where it is still there.
pub async fn lock(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<bool>> {
    sqlx::query_scalar!("select sealed from uploads where id = $1 for update", id).fetch_optional(conn).await
}

/// All uploads.
pub async fn list_ids(conn: &mut PgConnection) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar!("select id from uploads order by id").fetch_all(conn).await
}

/// Waits for whoever has an upload locked, as a commit has.
pub async fn wait_for(conn: &mut PgConnection, id: i64) -> sqlx::Result<()> {
    sqlx::query_scalar!("select id from uploads where id = $1 for share", id).fetch_optional(conn).await?;
    Ok(())
}

/// Seals an upload: its narinfos may be in the bucket from now on, so what they say stands.
pub async fn seal(conn: &mut PgConnection, id: i64) -> sqlx::Result<()> {
    sqlx::query!("update uploads set sealed = true where id = $1", id).execute(conn).await?;
    Ok(())
}

/// Those of the ids that are open uploads.
pub async fn list_open(conn: &mut PgConnection, ids: &[i64]) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar!("select id from uploads where id = any($1)", ids).fetch_all(conn).await
}

/// Notes what an upload says of its objects, as JSON, and what was not live at begin, for which addresses are handed out now;
/// whether it is still there.
pub async fn open(
    conn: &mut PgConnection,
    id: i64,
    plan: &[u8],
    missing: &[String],
    addresses: Duration,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update uploads set plan = $2, missing = $3, addresses_until = clock_timestamp() + $4::interval
         where id = $1",
        id,
        plan,
        missing,
        interval(addresses)
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Adds keys the upload turned out to depend on.
pub async fn add_keys(conn: &mut PgConnection, id: i64, keys: &[String]) -> sqlx::Result<()> {
    sqlx::query!("update uploads set keys = keys || $2 where id = $1", id, keys).execute(conn).await?;
    Ok(())
}

/// Notes that more addresses were handed out; whether the upload is still there.
pub async fn extend(conn: &mut PgConnection, id: i64, addresses: Duration) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update uploads set addresses_until = greatest(addresses_until, now() + $2::interval) where id = $1",
        id,
        interval(addresses)
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes a finished or abandoned upload.
pub async fn delete(conn: &mut PgConnection, id: i64) -> sqlx::Result<()> {
    sqlx::query!("delete from uploads where id = $1", id).execute(conn).await?;
    Ok(())
}

/// Ends uploads that are under way.
pub async fn delete_all(conn: &mut PgConnection, ids: &[i64]) -> sqlx::Result<()> {
    sqlx::query!("delete from uploads where id = any($1)", ids).execute(conn).await?;
    Ok(())
}

/// Deletes so many uploads begun longer ago than `older_than` whose last address ended longer ago than `settle`; how many
/// that were. One that is being committed is left alone.
pub async fn delete_expired(
    conn: &mut PgConnection,
    older_than: Duration,
    settle: Duration,
    limit: i64,
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "with expired as materialized (
             select id from uploads where started_at < now() - $1::interval and addresses_until < now() - $2::interval
             limit $3 for update skip locked
         )
         delete from uploads using expired where uploads.id = expired.id",
        interval(older_than),
        interval(settle),
        limit
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Uploads whose addresses can still be used.
#[derive(Debug)]
pub struct OpenUploads {
    /// Of all identities.
    pub all: i64,
    /// Of one.
    pub own: i64,
}

/// Counts the uploads under way, those of `owner` apart.
pub async fn count_open(conn: &mut PgConnection, owner: &str) -> sqlx::Result<OpenUploads> {
    sqlx::query_as!(
        OpenUploads,
        "select count(*) as \"all!\", count(*) filter (where owner = $1) as \"own!\"
         from uploads where addresses_until > now()",
        owner
    )
    .fetch_one(conn)
    .await
}
