//! Roots as a snapshot shows them, and the guarded deletion of those that no rule keeps.

use std::time::Duration;

use sqlx::PgConnection;
use time::{Date, OffsetDateTime};

use super::interval;

/// A committed closure.
#[derive(Debug, Clone, Copy)]
pub struct ClosureRow {
    /// Row id of its object.
    pub object: i64,
    /// When it was last pushed or refreshed.
    pub updated_at: OffsetDateTime,
}

/// A pin.
#[derive(Debug, Clone)]
pub struct PinRow {
    /// Its name.
    pub name: String,
    /// Row id of the object it points to.
    pub object: i64,
    /// What it keeps.
    pub store_path: String,
    /// When it was last written.
    pub updated_at: OffsetDateTime,
}

/// What a pin points to, or pointed to before.
#[derive(Debug, Clone)]
pub struct RevisionRow {
    /// The pin's name.
    pub name: String,
    /// Row id of the object.
    pub object: i64,
}

/// All closures, by id.
pub async fn list_closures(conn: &mut PgConnection) -> sqlx::Result<Vec<ClosureRow>> {
    sqlx::query_as!(
        ClosureRow,
        "select o.id as object, c.updated_at from closures c join objects o using (key) order by o.id"
    )
    .fetch_all(conn)
    .await
}

/// All keys of open uploads: `(upload, object)`.
pub async fn list_upload_keys(conn: &mut PgConnection) -> sqlx::Result<Vec<(i64, i64)>> {
    let rows = sqlx::query!(
        "select u.id as upload, o.id as object from uploads u cross join unnest(u.keys) as wanted (key)
         join objects o on o.key = wanted.key collate \"C\""
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.upload, row.object)).collect())
}

/// All keys of the uploads that [`super::uploads::delete_expired`] would leave, for a dry run.
pub async fn list_upload_keys_without_expired(
    conn: &mut PgConnection,
    older_than: Duration,
    settle: Duration,
) -> sqlx::Result<Vec<(i64, i64)>> {
    let rows = sqlx::query!(
        "select u.id as upload, o.id as object from uploads u cross join unnest(u.keys) as wanted (key)
         join objects o on o.key = wanted.key collate \"C\"
         where not (started_at < now() - $1::interval and addresses_until < now() - $2::interval)",
        interval(older_than),
        interval(settle)
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.upload, row.object)).collect())
}

/// How many uploads [`super::uploads::delete_expired`] would delete.
pub async fn count_expired(
    conn: &mut PgConnection,
    older_than: Duration,
    settle: Duration,
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        "select count(*) as \"count!\" from uploads
         where started_at < now() - $1::interval and addresses_until < now() - $2::interval",
        interval(older_than),
        interval(settle)
    )
    .fetch_one(conn)
    .await
}

/// All pins, by name.
pub async fn list_pins(conn: &mut PgConnection) -> sqlx::Result<Vec<PinRow>> {
    sqlx::query_as!(
        PinRow,
        "select p.name, o.id as object, p.store_path, p.updated_at
         from pins p join objects o on o.key = p.closure_key order by p.name"
    )
    .fetch_all(conn)
    .await
}

/// What pins point to and pointed to, by name: the current target first, then those it had last. Of two writes at
/// once the later one counts, which may have begun before the other.
pub async fn list_revisions(conn: &mut PgConnection) -> sqlx::Result<Vec<RevisionRow>> {
    sqlx::query_as!(
        RevisionRow,
        "select r.name, o.id as object from pin_revisions r join pins p using (name)
         join objects o on o.key = r.closure_key
         order by r.name, r.closure_key = p.closure_key desc, r.written_at desc, r.closure_key"
    )
    .fetch_all(conn)
    .await
}

/// Narinfos read on that day or later, by id.
pub async fn list_reads(conn: &mut PgConnection, since: Date) -> sqlx::Result<Vec<(i64, Date)>> {
    let rows = sqlx::query!(
        "select o.id, r.read_on from reads r join objects o using (key) where r.read_on >= $1 order by o.id",
        since
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.read_on)).collect())
}

/// Locks closures until the transaction ends: before their pins are deleted, as whoever writes a pin does.
pub async fn lock_closures(conn: &mut PgConnection, objects: &[i64]) -> sqlx::Result<()> {
    sqlx::query!(
        "select c.key from closures c join objects o using (key) where o.id = any($1) order by c.key
         for update of c",
        objects
    )
    .fetch_all(conn)
    .await?;
    Ok(())
}

/// Deletes those of the closures that nobody pushed, refreshed or pinned since the snapshot; gives their ids.
pub async fn delete_closures(conn: &mut PgConnection, closures: &[ClosureRow]) -> sqlx::Result<Vec<i64>> {
    let (objects, seen): (Vec<i64>, Vec<OffsetDateTime>) =
        closures.iter().map(|closure| (closure.object, closure.updated_at)).unzip();
    sqlx::query_scalar!(
        "with wanted as (
             select c.key, o.id from unnest($1::bigint[], $2::timestamptz[]) as planned (id, seen)
             join objects o on o.id = planned.id join closures c on c.key = o.key
             where c.updated_at = planned.seen
               and not exists (select from pins where pins.closure_key = c.key)
             order by c.key for update of c
         )
         delete from closures c using wanted where c.key = wanted.key returning wanted.id",
        &objects,
        &seen
    )
    .fetch_all(conn)
    .await
}

/// Deletes those of the pins that nobody wrote since the snapshot; gives their names.
pub async fn delete_pins(conn: &mut PgConnection, pins: &[PinRow]) -> sqlx::Result<Vec<String>> {
    let (names, seen): (Vec<String>, Vec<OffsetDateTime>) =
        pins.iter().map(|pin| (pin.name.clone(), pin.updated_at)).unzip();
    sqlx::query_scalar!(
        "delete from pins p using unnest($1::text[], $2::timestamptz[]) as planned (name, seen)
         where p.name = planned.name collate \"C\" and p.updated_at = planned.seen returning p.name",
        &names,
        &seen
    )
    .fetch_all(conn)
    .await
}

/// Keys of objects, and their store paths where they are signed narinfos: `(id, key, store path)`.
pub async fn describe(
    conn: &mut PgConnection,
    ids: &[i64],
) -> sqlx::Result<Vec<(i64, String, Option<String>)>> {
    let rows = sqlx::query!(
        "select o.id as \"id!\", o.key as \"key!\", n.store_path as \"store_path?\" from objects o left join narinfos n using (key)
         where o.id = any($1)",
        ids
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.key, row.store_path)).collect())
}
