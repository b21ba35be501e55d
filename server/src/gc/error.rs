//! What may go wrong with a collection.

use niks3_protocol::api::gc::GcConflict;

use crate::bucket::BucketError;
use crate::push::PushError;
use crate::runs::SILENCE;

/// Why a run failed, or was not started.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// A policy that cannot be carried out.
    #[error("{0}")]
    Invalid(String),
    /// Another run, with other parameters, is active.
    #[error("{}", .0.error)]
    Conflict(Box<GcConflict>),
    /// The plan goes further than the policy lets a run go.
    #[error(
        "the safety limit is reached, and nothing was deleted: {0}. \
             Look at the plan; where it is meant, run once with a higher limit"
    )]
    SafetyLimit(String),
    /// Something keeps what is to be deleted.
    #[error("nothing was deleted: {0} would have to go too; give --force where that is meant")]
    Held(String),
    /// The cache does not have what is to be deleted.
    #[error("the cache has no {0}")]
    NotThere(String),
    /// Not all of it went.
    #[error("{0}")]
    Left(String),
    /// Somebody asked for its end.
    #[error("the run was aborted; what it had not deleted stays for the next run")]
    Aborted,
    /// The server ends.
    #[error("the server is shutting down; the next run goes on")]
    Stopped,
    /// Another server declared this run dead and may have started its own.
    #[error("the run gave no sign of life for {SILENCE:?} and was taken over")]
    Lost,
    /// A row of `gc_runs` that this version cannot read.
    #[error("the run's row is not readable")]
    Row(#[from] serde_json::Error),
    /// PostgreSQL.
    #[error("database")]
    Database(#[from] sqlx::Error),
    /// S3.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Expiring uploads.
    #[error(transparent)]
    Uploads(#[from] PushError),
    /// The row graph is larger than this server can hold.
    #[error("{0}")]
    Graph(String),
}
