//! Who may write a narinfo, in `objects`: one upload at a time, and only while it is not live.

use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::interval;

/// A narinfo's row before it is written, locked.
#[derive(Debug)]
pub struct Writable {
    /// Its key.
    pub key: String,
    /// A commit has seen it: it is written no more.
    pub live: bool,
    /// A collection has claimed it.
    pub deleting: bool,
    /// Another's write of it may be under way still.
    pub busy: bool,
    /// Who claimed it last, until it was live.
    pub writing_by: Option<i64>,
}

/// One of the keys that another upload is writing, if there is one; locks nothing.
pub async fn find_busy(
    conn: &mut PgConnection,
    upload: i64,
    keys: &[String],
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "select key from objects
         where key = any((select $2::text[])::text[]) and not live and settles_at > now() and writing_by is distinct from $1 limit 1",
        upload,
        keys
    )
    .fetch_optional(conn)
    .await
}

/// The rows of narinfos, locked until the transaction ends.
pub async fn lock(conn: &mut PgConnection, upload: i64, keys: &[String]) -> sqlx::Result<Vec<Writable>> {
    sqlx::query_as!(
        Writable,
        "select key, live, deleting_since is not null as \"deleting!\",
                coalesce(not live and settles_at > now() and writing_by is distinct from $1, false) as \"busy!\",
                writing_by
         from objects where key = any((select $2::text[])::text[]) order by key for update",
        upload,
        keys
    )
    .fetch_all(conn)
    .await
}

/// Makes an upload the writer of narinfos until `settles` from now; gives that time.
pub async fn claim(
    conn: &mut PgConnection,
    upload: i64,
    keys: &[String],
    settles: Duration,
) -> sqlx::Result<OffsetDateTime> {
    let until = sqlx::query_scalar!("select now() + $1::interval as \"until!\"", interval(settles));
    let until = until.fetch_one(&mut *conn).await?;
    sqlx::query!(
        "update objects set writing_by = $1, settles_at = $3 where key = any((select $2::text[])::text[])",
        upload,
        keys,
        until
    )
    .execute(conn)
    .await?;
    Ok(until)
}
