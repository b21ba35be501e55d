//! `upload_narinfos` and `narinfos`: what each narinfo is to say, and says, and who pushed it.

use serde_json::Value;
use sqlx::PgConnection;

/// A narinfo that was signed for an upload.
#[derive(Debug)]
pub struct Signed {
    /// Its key.
    pub key: String,
    /// What it is to say.
    pub narinfo: Value,
    /// One a signing key.
    pub signatures: Vec<String>,
}

/// Keeps what was signed until the commit.
pub async fn insert_signed(
    conn: &mut PgConnection,
    id: i64,
    keys: &[String],
    narinfos: &[Value],
    signatures: &[String],
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into upload_narinfos (upload_id, key, narinfo, signatures)
         select $1, signed.key, signed.narinfo, signed.signatures::text[]
         from unnest($2::text[], $3::jsonb[], $4::text[]) as signed (key, narinfo, signatures)
         on conflict (upload_id, key) do update set narinfo = excluded.narinfo, signatures = excluded.signatures",
        id,
        keys,
        narinfos,
        signatures
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Those of the keys that were signed for an upload.
pub async fn list_signed(conn: &mut PgConnection, id: i64, keys: &[String]) -> sqlx::Result<Vec<Signed>> {
    sqlx::query_as!(
        Signed,
        "select key, narinfo, signatures from upload_narinfos where upload_id = $1 and key = any($2)",
        id,
        keys
    )
    .fetch_all(conn)
    .await
}

/// Keeps of an upload what its new narinfos say.
pub async fn insert_of_upload(
    conn: &mut PgConnection,
    upload_id: i64,
    new_keys: &[String],
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into narinfos (key, store_path, nar_key, compression, nar_hash, nar_size, refs, deriver, ca,
                               signatures, pushed_by, origin)
         select signed.key, signed.narinfo ->> 'store_path', signed.narinfo ->> 'url',
                signed.narinfo ->> 'compression', signed.narinfo ->> 'nar_hash',
                (signed.narinfo ->> 'nar_size')::bigint,
                array(select jsonb_array_elements_text(signed.narinfo -> 'references')),
                signed.narinfo ->> 'deriver', signed.narinfo ->> 'ca', signed.signatures,
                upload.owner, upload.origin
         from upload_narinfos signed join uploads upload on upload.id = signed.upload_id
         where signed.upload_id = $1 and signed.key = any($2)
         order by signed.key
         on conflict (key) do update set
             store_path = excluded.store_path, nar_key = excluded.nar_key, compression = excluded.compression,
             nar_hash = excluded.nar_hash, nar_size = excluded.nar_size, refs = excluded.refs,
             deriver = excluded.deriver, ca = excluded.ca, signatures = excluded.signatures,
             pushed_by = excluded.pushed_by, origin = excluded.origin, pushed_at = now()",
        upload_id,
        new_keys
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whose narinfo a key is, where it was signed here.
pub async fn find_store_path(conn: &mut PgConnection, key: &str) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!("select store_path from narinfos where key = $1", key).fetch_optional(conn).await
}

/// The derivers of narinfos that name one: `(key, whole path)`.
pub async fn list_derivers(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<Vec<(String, String)>> {
    let rows = sqlx::query!(
        "select key, deriver as \"deriver!\" from narinfos where key = any($1) and deriver is not null",
        keys
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.key, row.deriver)).collect())
}
