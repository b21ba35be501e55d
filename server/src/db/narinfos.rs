//! `signed_narinfos` and `narinfos`: what each narinfo is to say, and says, and who pushed it.

use niks3_protocol::api::pending_closures::NarInfoMetadata;
use niks3_protocol::nix::{Signature, StorePath};
use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// Keeps some of what a call signed for an upload, until its commit.
pub async fn insert_signed(conn: &mut PgConnection, upload: i64, narinfos: &[u8]) -> sqlx::Result<()> {
    sqlx::query!("insert into signed_narinfos (upload_id, narinfos) values ($1, $2)", upload, narinfos)
        .execute(conn)
        .await?;
    Ok(())
}

/// What was signed for an upload, the last at the end.
pub async fn list_signed(conn: &mut PgConnection, upload: i64) -> sqlx::Result<Vec<Vec<u8>>> {
    sqlx::query_scalar!("select narinfos from signed_narinfos where upload_id = $1 order by id", upload)
        .fetch_all(conn)
        .await
}

/// Keeps what the new narinfos of an upload say, as pushed by who began it.
pub async fn insert_of_upload(
    conn: &mut PgConnection,
    upload: i64,
    narinfos: &[(&NarInfoMetadata, &[Signature])],
) -> sqlx::Result<()> {
    let said = |text: fn(&NarInfoMetadata) -> String| -> Vec<String> {
        narinfos.iter().map(|(narinfo, _)| text(narinfo)).collect()
    };
    let sizes: Vec<i64> =
        narinfos.iter().map(|(narinfo, _)| i64::try_from(narinfo.nar_size).unwrap_or(i64::MAX)).collect();
    let derivers: Vec<Option<&str>> =
        narinfos.iter().map(|(narinfo, _)| narinfo.deriver.as_ref().map(StorePath::as_str)).collect();
    let cas: Vec<Option<&str>> = narinfos.iter().map(|(narinfo, _)| narinfo.ca.as_deref()).collect();
    let signatures: Vec<String> = narinfos.iter().map(|(_, signatures)| array_literal(signatures)).collect();
    sqlx::query!(
        "insert into narinfos (key, store_path, nar_key, compression, nar_hash, nar_size, refs, deriver, ca,
                               signatures, pushed_by, origin)
         select said.key, said.store_path, said.nar_key, said.compression, said.nar_hash, said.nar_size,
                said.refs::text[], said.deriver, said.ca, said.signatures::text[], upload.owner, upload.origin
         from uploads upload, unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                                     $8::text[], $9::text[], $10::text[], $11::text[])
             as said (key, store_path, nar_key, compression, nar_hash, nar_size, refs, deriver, ca, signatures)
         where upload.id = $1
         order by said.key collate \"C\"
         on conflict (key) do update set
             store_path = excluded.store_path, nar_key = excluded.nar_key, compression = excluded.compression,
             nar_hash = excluded.nar_hash, nar_size = excluded.nar_size, refs = excluded.refs,
             deriver = excluded.deriver, ca = excluded.ca, signatures = excluded.signatures,
             pushed_by = excluded.pushed_by, origin = excluded.origin, pushed_at = now()",
        upload,
        &said(|narinfo| narinfo.store_path.narinfo_key()),
        &said(|narinfo| narinfo.store_path.to_string()),
        &said(|narinfo| narinfo.url.clone()),
        &said(|narinfo| narinfo.compression.clone()),
        &said(|narinfo| narinfo.nar_hash.to_string()),
        &sizes,
        &said(|narinfo| array_literal(&narinfo.references)),
        &derivers as &[Option<&str>],
        &cas as &[Option<&str>],
        &signatures
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
        "select key, deriver as \"deriver!\" from narinfos where key = any((select $1::text[])::text[]) and deriver is not null",
        keys
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.key, row.deriver)).collect())
}

/// A PostgreSQL array literal, as PostgreSQL has no ragged arrays; of signatures or store paths, which have neither
/// quotes nor backslashes.
fn array_literal<T: std::fmt::Display>(texts: &[T]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("\"{text}\"")).collect();
    format!("{{{}}}", quoted.join(","))
}
