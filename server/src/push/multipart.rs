//! More part addresses, and the end of multipart uploads.

use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use niks3_protocol::api::multipart::{
    CompleteMultipartRequest, ListPartsRequest, ListPartsResponse, MAX_PART_NUMBER, MAX_PARTS_PER_CALL,
    RequestPartsRequest, RequestPartsResponse,
};

use super::{PushError, load_own};
use crate::app::App;
use crate::auth::Identity;
use crate::bucket::Failure;
use crate::db;
use crate::db::multipart_uploads::MultipartUpload;

/// Abandoned multipart uploads ended in one go.
const ABANDONED_BATCH: i64 = 1000;
/// Those of a batch are asked for so long, and until so many are not ended: a commit waits for it, and S3 may be away.
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_FAILED: usize = 100;

/// Signs addresses for more parts. The upload lives on until they have ended.
pub async fn request_parts(
    app: &App,
    identity: &Identity,
    request: &RequestPartsRequest,
) -> Result<RequestPartsResponse, PushError> {
    let RequestPartsRequest { object_key, upload_id, start_part_number, num_parts } = request;
    let (start, count) = (*start_part_number, *num_parts);
    if !(1..=MAX_PARTS_PER_CALL).contains(&count) {
        return Err(PushError::Invalid(format!(
            "num_parts is {count}; 1 to {MAX_PARTS_PER_CALL} are possible"
        )));
    }
    if !(1..=MAX_PART_NUMBER).contains(&start) || start + count - 1 > MAX_PART_NUMBER {
        return Err(PushError::Invalid(format!(
            "parts {start} to {} were asked for; S3 has 1 to {MAX_PART_NUMBER}",
            u64::from(start) + u64::from(count) - 1
        )));
    }
    let multipart = load_multipart(app, identity, object_key, upload_id).await?;
    // Dated before the row says when its addresses end.
    let presigner = app.bucket.presigner(app.config.presign_expiry).await?;
    let mut conn = app.db.acquire().await?;
    if !db::uploads::extend(&mut conn, multipart.upload_id, app.config.presign_expiry).await? {
        return Err(PushError::UploadNotFound(multipart.upload_id));
    }
    drop(conn);
    let part_urls =
        (start..start + count).map(|number| presigner.part(object_key, upload_id, number)).collect();
    Ok(RequestPartsResponse { part_urls, start_part_number: start })
}

/// What S3 has of an interrupted upload.
pub async fn list_parts(
    app: &App,
    identity: &Identity,
    request: &ListPartsRequest,
) -> Result<ListPartsResponse, PushError> {
    let ListPartsRequest { object_key, upload_id } = request;
    load_multipart(app, identity, object_key, upload_id).await?;
    match app.bucket.list_parts(object_key, upload_id).await {
        Ok(parts) => Ok(ListPartsResponse { parts }),
        // The bucket's own rules may have ended it.
        Err(error) if matches!(error.failure, Failure::UploadNotFound | Failure::NotFound) => {
            Err(PushError::MultipartNotFound(upload_id.clone()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Puts the parts of an object together. Where the answer to an earlier attempt was lost, this one finds the
/// object already whole, and that is success too.
pub async fn complete_multipart(
    app: &App,
    identity: &Identity,
    request: &CompleteMultipartRequest,
) -> Result<(), PushError> {
    let CompleteMultipartRequest { object_key, upload_id, parts } = request;
    if parts.is_empty() || parts.iter().any(|part| !(1..=MAX_PART_NUMBER).contains(&part.part_number)) {
        return Err(PushError::Invalid(format!(
            "parts must be numbered 1 to {MAX_PART_NUMBER}, at least one"
        )));
    }
    let multipart = load_multipart(app, identity, object_key, upload_id).await?;
    let mut parts = parts.clone();
    parts.sort_unstable_by_key(|part| part.part_number);
    // Some S3 servers would put one in twice.
    if let Some(pair) = parts.windows(2).find(|pair| pair[0].part_number == pair[1].part_number) {
        return Err(PushError::Invalid(format!("part {} is there twice", pair[0].part_number)));
    }
    match app.bucket.complete_multipart(object_key, upload_id, &parts).await {
        Ok(()) => {}
        Err(error) if matches!(error.failure, Failure::UploadNotFound | Failure::NotFound) => {
            if app.bucket.head(object_key).await?.is_none() {
                return Err(PushError::MultipartNotFound(upload_id.clone()));
            }
        }
        Err(error) if error.failure == Failure::Refused => {
            return Err(PushError::Invalid(format!("S3 does not accept the parts of {object_key}: {error}")));
        }
        Err(error) => return Err(error.into()),
    }
    let mut conn = app.db.acquire().await?;
    db::multipart_uploads::delete(&mut conn, &[multipart.s3_upload_id]).await?;
    Ok(())
}

/// Ends, at S3, the multipart uploads whose upload is no more. One that another open upload began for the same
/// object is left alone: ending it would fail that push. What S3 does not end stays noted, and stops nothing.
pub(super) async fn abort_abandoned(app: &App) -> Result<(), PushError> {
    loop {
        let mut conn = app.db.acquire().await?;
        let abandoned = db::multipart_uploads::list_abandoned(&mut conn, ABANDONED_BATCH).await?;
        drop(conn);
        if abandoned.is_empty() {
            return Ok(());
        }
        let count = abandoned.len();
        let aborts = futures::stream::iter(abandoned).map(|multipart| async move {
            let MultipartUpload { object_key, s3_upload_id, .. } = multipart;
            app.bucket.abort_multipart(&object_key, &s3_upload_id).await.map(|()| s3_upload_id)
        });
        let mut aborts = pin!(aborts.buffer_unordered(16).take_until(tokio::time::sleep(PATIENCE)));
        let (mut ended, mut failed) = (Vec::new(), Vec::new());
        while let Some(result) = aborts.next().await {
            match result {
                Ok(id) => ended.push(id),
                Err(error) => failed.push(error),
            }
            if failed.len() == MAX_FAILED {
                break;
            }
        }
        let mut conn = app.db.acquire().await?;
        db::multipart_uploads::delete(&mut conn, &ended).await?;
        if ended.is_empty() || failed.len() == MAX_FAILED {
            let error = failed.first().map(|error| error as &dyn Error);
            tracing::warn!(error, count = count - ended.len(), "multipart uploads are left open");
            return Ok(());
        }
    }
}

async fn load_multipart(
    app: &App,
    identity: &Identity,
    object_key: &str,
    upload_id: &str,
) -> Result<MultipartUpload, PushError> {
    let mut conn = app.db.acquire().await?;
    let found = db::multipart_uploads::find(&mut conn, upload_id).await?;
    drop(conn);
    let multipart = found
        .filter(|multipart| multipart.object_key == object_key)
        .ok_or_else(|| PushError::MultipartNotFound(upload_id.to_owned()))?;
    load_own(app, identity, multipart.upload_id).await?;
    Ok(multipart)
}
