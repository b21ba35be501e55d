//! Why a push failed.

use niks3_protocol::nix::StorePath;
use reqwest::StatusCode;

use crate::client::ClientError;
use crate::store::StoreError;

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PushError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path} could not be read; it was not pushed")]
    ReadNar { path: StorePath, source: std::io::Error },
    #[error("the log of the build of {path} could not be read; nothing was committed")]
    ReadLog { path: StorePath, source: std::io::Error },
    #[error("{path} is not what Nix recorded: it changed on disk, or the disk is damaged; it was not pushed")]
    Changed { path: StorePath },
    #[error("{path} was deleted while it was pushed, as Nix's garbage collection does; it was not pushed")]
    Gone { path: StorePath },
    #[error("{path} is not in {directory}, this cache's store directory; nothing was sent")]
    OtherStore { path: StorePath, directory: String },
    #[error("{path} needs {needed}; it was not pushed")]
    Needs { path: StorePath, needed: StorePath },
    #[error("{path} could not be uploaded")]
    Upload { path: StorePath, source: ClientError },
    #[error("the server asks for {0}, which this push does not have")]
    Unexpected(String),
    #[error("a task of this program ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl PushError {
    pub(crate) fn client(&self) -> Option<&ClientError> {
        match self {
            Self::Client(error) | Self::Upload { source: error, .. } => Some(error),
            _ => None,
        }
    }

    /// Whether the upload is no longer what it was at its begin, so that a new one goes on.
    pub(super) fn wants_new_begin(&self) -> bool {
        match self.client() {
            Some(ClientError::Expired { .. } | ClientError::TooOld { .. }) => true,
            Some(error) => matches!(error.status(), Some(StatusCode::NOT_FOUND | StatusCode::CONFLICT)),
            None => false,
        }
    }

    /// Whether S3 got other bytes than were sent.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self.client(), Some(ClientError::Damaged { .. }))
    }

    /// The path that it is about.
    pub(crate) fn path(&self) -> Option<&StorePath> {
        match self {
            Self::ReadNar { path, .. }
            | Self::ReadLog { path, .. }
            | Self::Changed { path }
            | Self::Gone { path }
            | Self::OtherStore { path, .. }
            | Self::Needs { path, .. }
            | Self::Upload { path, .. } => Some(path),
            Self::Client(_) | Self::Store(_) | Self::Unexpected(_) | Self::Task(_) => None,
        }
    }

    /// Whether other paths may fare better.
    pub(super) fn is_of_one_path(&self) -> bool {
        match self {
            Self::Upload { source, .. } => !self.wants_new_begin() && !source.is_absence(),
            _ => self.path().is_some(),
        }
    }
}
