//! The server's calls about single paths, and what takes the space.

use niks3_protocol::api::cache_config::EXPLAIN;
use niks3_protocol::api::gc::{DeleteRequest, GcStatus};
use niks3_protocol::api::usage::{Usage, Why};
use niks3_protocol::nix::StorePathHash;
use reqwest::Method;

use super::{Client, ClientError};

impl Client {
    pub(crate) async fn why(&self, hash: &StorePathHash) -> Result<Why, ClientError> {
        let answer =
            self.call(Method::GET, &format!("api/paths/{}/why", hash.as_str()), &[], None::<&()>).await;
        self.or_too_old(answer, EXPLAIN, "say why a path is kept").await
    }

    pub(crate) async fn usage(&self, limit: u16) -> Result<Usage, ClientError> {
        let answer = self.call(Method::GET, "api/usage", &[("limit", limit.to_string())], None::<&()>).await;
        self.or_too_old(answer, EXPLAIN, "say what takes the space").await
    }

    pub(crate) async fn delete_path(
        &self,
        hash: &StorePathHash,
        request: DeleteRequest,
    ) -> Result<GcStatus, ClientError> {
        let path = format!("api/paths/{}/delete", hash.as_str());
        let answer = self.call(Method::POST, &path, &[], Some(&request)).await;
        self.or_too_old(answer, EXPLAIN, "delete a path").await
    }
}
