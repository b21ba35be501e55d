//! `upload_narinfos` and `narinfos`: what each narinfo is to say, and says, and who pushed it.

use niks3_protocol::nix::Signature;
use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

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

/// Keeps what was signed until the commit; narinfos as JSON.
pub async fn insert_signed(
    conn: &mut PgConnection,
    id: i64,
    keys: &[String],
    narinfos: &[String],
    signatures: &[Vec<Signature>],
    nar_etags: &[Option<String>],
) -> sqlx::Result<()> {
    let literals: Vec<String> = signatures.iter().map(|list| array_literal(list)).collect();
    sqlx::query!(
        "insert into upload_narinfos (upload_id, key, narinfo, signatures, nar_etag)
         select $1, signed.key, signed.narinfo::jsonb, signed.signatures::text[], signed.nar_etag
         from unnest($2::text[], $3::text[], $4::text[], $5::text[])
             as signed (key, narinfo, signatures, nar_etag)
         on conflict (upload_id, key) do update set narinfo = excluded.narinfo,
             signatures = excluded.signatures, nar_etag = excluded.nar_etag",
        id,
        keys,
        narinfos,
        &literals,
        nar_etags as &[Option<String>]
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What NARs were when they were read back for an upload: `(key, entity tag)`.
pub async fn list_nar_etags(conn: &mut PgConnection, id: i64) -> sqlx::Result<Vec<(String, String)>> {
    let rows = sqlx::query!(
        "select narinfo ->> 'url' as \"nar_key!\", nar_etag as \"nar_etag!\"
         from upload_narinfos where upload_id = $1 and nar_etag is not null",
        id
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.nar_key, row.nar_etag)).collect())
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

/// A narinfo in the bucket and who wrote it.
#[derive(Debug)]
pub struct Pushed {
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
    /// One a signing key.
    pub signatures: Vec<String>,
    /// Whose push wrote it.
    pub pushed_by: String,
    /// What is known of who that was.
    pub origin: Value,
    /// When.
    pub pushed_at: OffsetDateTime,
}

/// Finds a live narinfo.
pub async fn find(conn: &mut PgConnection, key: &str) -> sqlx::Result<Option<Pushed>> {
    sqlx::query_as!(
        Pushed,
        "select n.store_path, n.nar_key, n.compression, n.nar_hash, n.nar_size, n.refs, n.deriver, n.ca,
                n.signatures, n.pushed_by, n.origin, n.pushed_at
         from narinfos n join objects o using (key) where key = $1 and o.live and o.deleting_since is null",
        key
    )
    .fetch_optional(conn)
    .await
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

/// A PostgreSQL array literal; a signature's text has neither quotes nor backslashes.
fn array_literal(signatures: &[Signature]) -> String {
    let quoted: Vec<String> = signatures.iter().map(|signature| format!("\"{signature}\"")).collect();
    format!("{{{}}}", quoted.join(","))
}
