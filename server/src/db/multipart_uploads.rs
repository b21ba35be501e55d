//! `multipart_uploads`: what S3 holds open for us.

use sqlx::PgConnection;

/// One that S3 holds open.
#[derive(Debug, Clone)]
pub struct MultipartUpload {
    /// S3's id.
    pub s3_upload_id: String,
    /// Of which object.
    pub object_key: String,
    /// For which upload.
    pub upload_id: i64,
}

/// Notes ones that were opened for an upload.
pub async fn insert(
    conn: &mut PgConnection,
    upload_id: i64,
    object_keys: &[String],
    s3_upload_ids: &[String],
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into multipart_uploads (s3_upload_id, object_key, upload_id)
         select opened.s3_upload_id, opened.object_key, $1
         from unnest($2::text[], $3::text[]) as opened (object_key, s3_upload_id)",
        upload_id,
        object_keys,
        s3_upload_ids
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Finds one by S3's id.
pub async fn find(conn: &mut PgConnection, s3_upload_id: &str) -> sqlx::Result<Option<MultipartUpload>> {
    sqlx::query_as!(
        MultipartUpload,
        "select s3_upload_id, object_key, upload_id from multipart_uploads where s3_upload_id = $1",
        s3_upload_id
    )
    .fetch_optional(conn)
    .await
}

/// Those whose upload is no more, to be aborted; by chance, so that those S3 never ends keep no other from its turn.
pub async fn list_abandoned(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<MultipartUpload>> {
    sqlx::query_as!(
        MultipartUpload,
        "select s3_upload_id, object_key, upload_id from multipart_uploads m
         where not exists (select from uploads u where u.id = m.upload_id)
         order by random() limit $1",
        limit
    )
    .fetch_all(conn)
    .await
}

/// Forgets ones that S3 completed or aborted.
pub async fn delete(conn: &mut PgConnection, s3_upload_ids: &[String]) -> sqlx::Result<()> {
    sqlx::query!("delete from multipart_uploads where s3_upload_id = any($1)", s3_upload_ids)
        .execute(conn)
        .await?;
    Ok(())
}
