//! `objects`, as a begin looks at them and leaves them: what an upload promises is expected, and wanted.

use sqlx::{Executor as _, PgConnection, PgPool};

/// From so many keys on, two connections look for half of them each: PostgreSQL gives each a core.
const SPLIT: usize = 1024;
/// From so many rows on, COPY is worth its savepoint: PostgreSQL writes ten thousand in half of the time.
const COPIED: usize = 256;
/// Bytes of keys that are sent to it at a time, about.
const COPY_PIECE: usize = 64 << 10;

/// The keys of an upload that are not simply there and wanted.
#[derive(Debug, Default)]
pub struct Exceptions {
    /// Those without a row.
    pub unknown: Vec<String>,
    /// Condemned and not yet claimed.
    condemned: Vec<String>,
    others: Expected,
}

/// How they stand once they have rows and are not condemned.
#[derive(Debug, Default)]
pub struct Expected {
    /// Those that are not live.
    pub missing: Vec<String>,
    /// One that is being deleted, or was until a moment ago.
    pub deleting: Option<String>,
}

/// Those of the keys that are not simply there and wanted: most keys are, or are unknown. Each was so at some moment since
/// the call, not all at the same: what matters to a begin is that they were looked at after its upload was committed.
pub async fn list_exceptions(pool: &PgPool, keys: &[String]) -> sqlx::Result<Exceptions> {
    let half = if keys.len() < SPLIT { keys.len() } else { keys.len() / 2 };
    let (first, second) = keys.split_at(half);
    let list = async |keys: &[String]| match keys {
        [] => Ok(Vec::new()),
        // Neither holds a connection while it waits for one.
        keys => list_unwanted(&mut *pool.acquire().await?, keys).await,
    };
    let (first, second) = tokio::try_join!(list(first), list(second))?;
    Ok(first.into_iter().chain(second).collect())
}

impl FromIterator<Unwanted> for Exceptions {
    fn from_iter<States: IntoIterator<Item = Unwanted>>(states: States) -> Self {
        let mut exceptions = Self::default();
        for state in states {
            if state.id.is_none() {
                exceptions.unknown.push(state.key);
            } else if state.condemned && !state.deleting {
                exceptions.condemned.push(state.key);
            } else {
                exceptions.others.add(state);
            }
        }
        exceptions
    }
}

/// [`settle`], of the exceptions among the keys.
pub async fn expect(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<Expected> {
    let exceptions = list_unwanted(conn, keys).await?.into_iter().collect();
    settle(conn, exceptions).await
}

/// Gives every key without a row one, as expected, and uncondemns what is condemned and not yet claimed; then how
/// they stand. Each statement is for those alone that need it. Inside of a transaction.
pub async fn settle(conn: &mut PgConnection, exceptions: Exceptions) -> sqlx::Result<Expected> {
    let Exceptions { mut unknown, condemned: mut unsettled, others: mut expected } = exceptions;
    unknown.sort_unstable();
    // Another push may have been quicker with some.
    if insert_expected(conn, &unknown).await? == unknown.len() as u64 {
        expected.missing.append(&mut unknown);
    }
    unsettled.append(&mut unknown);
    if !unsettled.is_empty() {
        lift_condemnations(conn, &unsettled).await?;
        list_unwanted(conn, &unsettled).await?.into_iter().for_each(|state| expected.add(state));
    }
    Ok(expected)
}

impl Expected {
    fn add(&mut self, state: Unwanted) {
        // It may have lost its row between two statements: its deletion was just confirmed.
        if state.deleting || state.id.is_none() {
            self.deleting.get_or_insert_with(|| state.key.clone());
        }
        if !state.live {
            self.missing.push(state.key);
        }
    }
}

/// A key that is not there and wanted.
#[derive(Debug)]
struct Unwanted {
    key: String,
    /// Its row, where it has one.
    id: Option<i64>,
    live: bool,
    condemned: bool,
    deleting: bool,
}

async fn list_unwanted(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<Vec<Unwanted>> {
    sqlx::query_as!(
        Unwanted,
        "select wanted.key as \"key!\", o.id as \"id?\", coalesce(o.live, false) as \"live!\",
             o.condemned_at is not null as \"condemned!\", o.deleting_since is not null as \"deleting!\"
         from unnest((select $1::text[])) as wanted (key) left join objects o on o.key = wanted.key collate \"C\"
         where o.id is null or not o.live or o.condemned_at is not null or o.deleting_since is not null",
        keys
    )
    .fetch_all(conn)
    .await
}

/// Gives the keys, which are in order, rows where they have none; how many it gave.
async fn insert_expected(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<u64> {
    if keys.is_empty() {
        return Ok(0);
    }
    if keys.len() >= COPIED {
        conn.execute("savepoint before_copy").await?;
        match copy_expected(conn, keys).await {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                conn.execute("rollback to savepoint before_copy").await?;
            }
            copied => return copied,
        }
    }
    let done = sqlx::query!(
        "insert into objects (key) select key from unnest($1::text[]) as wanted (key) order by key collate \"C\"
         on conflict (key) do nothing",
        keys
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// The same of keys of which none has one; PostgreSQL refuses them all, and its log says so, where another transaction was
/// quicker with one. In COPY's binary format (PostgreSQL's manual, "COPY", "Binary Format").
async fn copy_expected(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<u64> {
    let mut copy = conn.copy_in_raw("copy objects (key) from stdin (format binary)").await?;
    // The signature, no flags, no extension.
    let mut piece = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for key in keys {
        let bytes = i32::try_from(key.len()).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        piece.extend(1_i16.to_be_bytes());
        piece.extend(bytes.to_be_bytes());
        piece.extend(key.as_bytes());
        if piece.len() >= COPY_PIECE {
            copy.send(piece.as_slice()).await?;
            piece.clear();
        }
    }
    piece.extend((-1_i16).to_be_bytes());
    copy.send(piece.as_slice()).await?;
    copy.finish().await
}

/// Uncondemns what is condemned and not yet claimed.
async fn lift_condemnations(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<()> {
    sqlx::query!(
        "with condemned as (
             select id from objects
             where key = any((select $1::text[])::text[]) and condemned_at is not null and deleting_since is null
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
