//! Looking in the bucket for what a client says it sent.

use std::collections::HashMap;

use futures::{StreamExt as _, TryStreamExt as _};
use niks3_protocol::api::pending_closures::UploadObject;
use niks3_protocol::object_key::{NarCompression, ObjectKey, ObjectKind, is_narinfo};
use niks3_protocol::server_config::VerifyUploads;

use super::PushError;
use crate::app::App;
use crate::bucket::{BucketError, ObjectHead};
use crate::db;
use crate::db::uploads::Upload;

/// Looks for each key in the bucket; the result is in no order.
pub(super) async fn look(
    app: &App,
    keys: &[String],
) -> Result<Vec<(String, Option<ObjectHead>)>, BucketError> {
    futures::stream::iter(keys.iter().cloned())
        .map(|key| async move { Ok((key.clone(), app.bucket.head(&key).await?)) })
        .buffer_unordered(app.config.s3_concurrency)
        .try_collect()
        .await
}

/// The stored bytes of all that an upload's client had to send, where the configuration says to look; all of it
/// has to be there, and to be what it has to be.
pub(super) async fn look_for_sent(
    app: &App,
    id: i64,
    upload: &Upload,
    plan: &[UploadObject],
) -> Result<HashMap<String, Option<i64>>, PushError> {
    let sent: Vec<String> = upload.missing.iter().filter(|key| !is_narinfo(key)).cloned().collect();
    if app.config.verify == VerifyUploads::None {
        return Ok(sent.into_iter().map(|key| (key, None)).collect());
    }
    let mut sizes = HashMap::with_capacity(upload.missing.len());
    let mut tags = HashMap::new();
    let mut absent = Vec::new();
    for (key, head) in look(app, &sent).await? {
        match head {
            Some(head) => {
                tags.insert(key.clone(), head.etag);
                sizes.insert(key, Some(head.size));
            }
            None => absent.push(key),
        }
    }
    if !absent.is_empty() {
        absent.sort_unstable();
        return Err(PushError::NotUploaded(absent));
    }
    for object in plan.iter().filter(|object| object.kind == ObjectKind::Nar) {
        let Some(Some(stored)) = sizes.get(&object.key) else { continue };
        let expected = object.nar_size.filter(|_| is_plain(&object.key));
        if *stored == 0 || expected.is_some_and(|expected| u64::try_from(*stored) != Ok(expected)) {
            return Err(PushError::Replaced(object.key.clone()));
        }
    }
    let mut conn = app.db.acquire().await?;
    let read_back = db::narinfos::list_nar_etags(&mut conn, id).await?;
    match read_back.into_iter().find(|(key, tag)| tags.get(key).is_some_and(|now| now != tag)) {
        Some((key, _)) => Err(PushError::Replaced(key)),
        None => Ok(sizes),
    }
}

/// A NAR that is stored as it is.
fn is_plain(key: &str) -> bool {
    matches!(key.parse(), Ok(ObjectKey::Nar(_, NarCompression::None)))
}
