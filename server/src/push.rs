//! A push: begin, sign, complete. The rules of docs/gc.md that keep its promise while collections run.
//!
//! Only this module and its children open transactions for pushes; no S3 call is made inside one.

mod addresses;
mod begin;
mod commit;
mod error;
mod look;
mod multipart;
mod narinfos;
mod plan;
mod put_addresses;
mod reading;
mod realisations;
mod room;
mod sign;
mod signed;
mod size;
mod staging;
mod verify;

pub use addresses::addresses;
pub use begin::{Begun, begin};
pub use commit::complete;
pub use error::PushError;
pub use multipart::{complete_multipart, list_parts, request_parts};
pub use put_addresses::{Missing, PutAddresses, SignedAddresses};
pub use reading::{Begin, Numbering, Reading};
pub(crate) use realisations::read as read_realisation;
pub use room::require_room;
pub use sign::{Said, find_said, sign};
pub(crate) use verify::{Stored, digest_of};

use std::time::Duration;

use niks3_protocol::object_key::ObjectKey;

use crate::app::App;
use crate::auth::Identity;
use crate::db;
use crate::db::uploads::Upload;

/// Uploads that expire in one statement; with each goes what was signed for it.
const EXPIRED_BATCH: i64 = 20;

/// Whether a commit has seen the object in the bucket.
pub async fn object_is_live(app: &App, key: &ObjectKey) -> Result<bool, PushError> {
    let mut conn = app.db.acquire().await?;
    Ok(db::objects::is_live(&mut conn, &key.to_string()).await?)
}

/// Deletes uploads begun longer ago than `older_than`, but none before its addresses and T have passed, and
/// removes what they leave in the bucket. How many went.
pub async fn expire(app: &App, older_than: Duration) -> Result<u64, PushError> {
    let settle = app.bucket.config().settle_time();
    let mut expired = 0;
    let mut conn = app.db.acquire().await?;
    loop {
        match db::uploads::delete_expired(&mut conn, older_than, settle, EXPIRED_BATCH).await? {
            0 => break,
            count => expired += count,
        }
    }
    drop(conn);
    clear_abandoned(app).await?;
    Ok(expired)
}

/// Removes from the bucket what uploads left that are no more.
pub async fn clear_abandoned(app: &App) -> Result<(), PushError> {
    multipart::abort_abandoned(app).await?;
    staging::clear_abandoned(app).await
}

/// Reads an upload that this identity began. Another's is as good as absent.
async fn load_own(app: &App, identity: &Identity, id: i64) -> Result<Upload, PushError> {
    let mut conn = app.db.acquire().await?;
    let upload = db::uploads::find(&mut conn, id).await?.ok_or(PushError::UploadNotFound(id))?;
    if upload.owner == identity.name { Ok(upload) } else { Err(PushError::NotOwner(id)) }
}
