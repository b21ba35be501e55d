//! Pins: rows that keep closures, and the objects `pins/{name}` that tell readers of the bucket.

use niks3_protocol::api::pins::{CreatePinRequest, Pin, PinName};
use niks3_protocol::nix::StorePath;
use niks3_protocol::object_key::PIN_PREFIX;

use crate::app::App;
use crate::auth::Identity;
use crate::bucket::{BucketError, Deletion, Failure, PLAIN_TEXT};
use crate::db;
use crate::push::PushError;

/// All pins, by name.
pub async fn list(app: &App) -> Result<Vec<Pin>, PushError> {
    let mut conn = app.db.acquire().await?;
    Ok(db::pins::list(&mut conn).await?)
}

/// Points a name at a pushed closure; false where the closure was not pushed.
///
/// The closure is made new in the same transaction: a collection about to expire it finds it changed.
pub async fn create(
    app: &App,
    identity: &Identity,
    name: &PinName,
    request: &CreatePinRequest,
) -> Result<bool, PushError> {
    let path: StorePath =
        request.store_path.parse().map_err(|error| PushError::Invalid(format!("store_path: {error}")))?;
    let key = path.narinfo_key();
    let mut transaction = db::begin(&app.db).await?;
    let present = db::closures::refresh(&mut transaction, std::slice::from_ref(&key), &identity.name).await?;
    if present.is_empty() {
        return Ok(false);
    }
    // The hash finds the closure, whatever name and store stand around it.
    let pushed = db::narinfos::find_store_path(&mut transaction, &key).await?;
    if pushed.is_some_and(|pushed| pushed != path.as_str()) {
        return Ok(false);
    }
    db::pins::upsert(&mut transaction, name.as_str(), &key, path.as_str(), &identity.name).await?;
    transaction.commit().await?;
    // Should this fail, the pin holds all the same; the caller is told and may write it again.
    match put_object(app, name.as_str(), path.as_str()).await {
        // A file system behind S3 ends at names of 255 bytes.
        Err(error) if error.failure == Failure::Refused => Err(PushError::Invalid(format!(
            "the closure is pinned, but the storage does not take the pin's object: {}",
            error.message
        ))),
        result => Ok(result.map(|()| true)?),
    }
}

/// Writes the object that tells readers of the bucket what a pin points to.
pub(crate) async fn put_object(app: &App, name: &str, store_path: &str) -> Result<(), BucketError> {
    app.bucket.put_own(&format!("{PIN_PREFIX}{name}"), PLAIN_TEXT, store_path.as_bytes().to_vec()).await
}

/// Removes a name; false where it was not there.
pub async fn delete(app: &App, name: &PinName) -> Result<bool, PushError> {
    let mut conn = app.db.acquire().await?;
    let there = db::pins::delete(&mut conn, name.as_str()).await?;
    drop(conn);
    if there {
        let key = format!("{PIN_PREFIX}{name}");
        if let [Deletion::Refused(message) | Deletion::Unknown(message)] =
            app.bucket.delete(std::slice::from_ref(&key)).await.as_slice()
        {
            let message = message.clone();
            return Err(
                BucketError { operation: "delete", key, failure: Failure::Unreachable, message }.into()
            );
        }
    }
    Ok(there)
}
