//! What may go wrong with a push.

use std::collections::BTreeMap;

use tokio::task::JoinError;

use crate::bucket::BucketError;

/// Why a call of a push failed; `error.rs` of the server gives each its status.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The request contradicts itself or the format.
    #[error("{0}")]
    Invalid(String),
    /// The request names something its upload does not have.
    #[error("{0}")]
    Foreign(String),
    /// No such upload, or it has expired.
    #[error("upload {0} is not there: it was completed or has expired; begin again")]
    UploadNotFound(i64),
    /// Somebody else's upload.
    #[error("upload {0} was begun by another identity")]
    NotOwner(i64),
    /// No such multipart upload.
    #[error("multipart upload {0:?} is not open")]
    MultipartNotFound(String),
    /// Objects of the upload are not in the bucket.
    #[error("{} of the upload's objects are not in the bucket, among them {}; upload them, then complete again",
        .0.len(), .0.first().map_or("", String::as_str))]
    NotUploaded(Vec<String>),
    /// A NAR in the bucket is not the one it has to be.
    #[error(
        "{0} in the bucket is not what it was said to be; upload it, sign its narinfo and complete again"
    )]
    Replaced(String),
    /// Narinfos the server is to write were never signed.
    #[error("{} of the upload's narinfos were not signed, among them {}; sign them, then complete again",
        .0.len(), .0.first().map_or("", String::as_str))]
    NotSigned(Vec<String>),
    /// Narinfos may be in the bucket already.
    #[error("upload {0} is being completed, its narinfos stand; complete it, or begin again")]
    Sealed(i64),
    /// Another push writes the same narinfo at this moment, or died doing so.
    #[error("{0} is being written by another push at this moment; try again")]
    BeingWritten(String),
    /// The right to write narinfos ended before all were sent: another push may have it next.
    #[error("S3 took so long that {0} could not be written in time; complete again")]
    Late(String),
    /// The closure refers to what the cache does not have.
    #[error("the closure refers to {0}, which is neither in the upload nor in the cache; push it too")]
    DanglingReference(String),
    /// The closure refers to what is itself no longer whole.
    #[error("part of what the closure refers to outside its upload was collected; push the whole closure")]
    Incomplete,
    /// A row of the upload went, which only a hand in the database can do.
    #[error("{0} changed while the upload was open; begin again")]
    Changed(String),
    /// An object that was live at begin was found lost since.
    #[error("{0} was in the cache when the upload began, and is lost; begin again")]
    Lost(String),
    /// Objects are being deleted at this moment.
    #[error("{0} is being deleted at this moment; try again")]
    BeingDeleted(String),
    /// NARs that are larger than may be.
    #[error("{message}")]
    TooLarge {
        /// Which is the first, and what to do.
        message: String,
        /// By key, the same of each.
        objects: BTreeMap<String, String>,
    },
    /// As many uploads are under way as may be.
    #[error("{0}")]
    TooMany(String),
    /// PostgreSQL.
    #[error("database")]
    Database(#[from] sqlx::Error),
    /// S3.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A part of the call that was computed on another thread and panicked there.
    #[error(transparent)]
    Panicked(#[from] JoinError),
}
