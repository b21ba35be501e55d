//! The server's calls about comparisons of bucket and rows.

use niks3_protocol::api::cache_config::FSCK;
use niks3_protocol::api::fsck::{FsckParams, FsckStatus};
use reqwest::{Method, StatusCode};

use super::{Client, ClientError};

const WHAT: &str = "compare its bucket with its database when asked to";

impl Client {
    /// Starts a run; `None` where one with other parameters is active.
    pub(crate) async fn start_fsck(&self, params: &FsckParams) -> Result<Option<FsckStatus>, ClientError> {
        let answer = self.call(Method::POST, "api/fsck", &[], Some(params)).await;
        match self.or_too_old(answer, FSCK, WHAT).await {
            Err(error) if error.status() == Some(StatusCode::CONFLICT) => Ok(None),
            answer => answer.map(Some),
        }
    }

    pub(crate) async fn fsck_run(&self, id: i64) -> Result<FsckStatus, ClientError> {
        self.call(Method::GET, &format!("api/fsck/runs/{id}"), &[], None::<&()>).await
    }

    pub(crate) async fn fsck_status(&self) -> Result<FsckStatus, ClientError> {
        let answer = self.call(Method::GET, "api/fsck/status", &[], None::<&()>).await;
        self.or_too_old(answer, FSCK, WHAT).await
    }

    pub(crate) async fn abort_fsck(&self) -> Result<(), ClientError> {
        let answer = self.send(Method::POST, "api/fsck/abort", &[], None::<&()>).await;
        self.or_too_old(answer, FSCK, WHAT).await.map(drop)
    }
}
