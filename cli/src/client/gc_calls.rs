//! The server's calls about collections.

use niks3_protocol::api::cache_config::GC_POLICY;
use niks3_protocol::api::gc::{GcParams, GcStatus};
use reqwest::{Method, StatusCode};

use super::gc_answer::GcAnswer;
use super::{Client, ClientError};

impl Client {
    /// Starts a run; by the call of niks3 1.7 where that can say all there is to say.
    pub(crate) async fn start_gc(&self, params: &GcParams) -> Result<GcStatus, ClientError> {
        let plain = GcParams {
            older_than: params.older_than,
            failed_uploads_older_than: params.failed_uploads_older_than,
            force: params.force,
            deletion_grace: params.deletion_grace,
            ..GcParams::default()
        };
        let Some(older_than) = params.older_than.filter(|_| plain == *params) else {
            return self.start_policy(params).await;
        };
        let mut query = vec![
            ("older-than", older_than.to_string()),
            ("failed-uploads-older-than", params.failed_uploads_older_than.to_string()),
        ];
        if params.force {
            query.push(("force", "true".to_owned()));
        }
        if let Some(grace) = params.deletion_grace {
            query.push(("deletion-grace", grace.to_string()));
        }
        let answer: GcAnswer = self.call(Method::DELETE, "api/closures", &query, None::<&()>).await?;
        Ok(answer.0)
    }

    /// A policy that niks3 1.7 does not know.
    async fn start_policy(&self, params: &GcParams) -> Result<GcStatus, ClientError> {
        let answer = self.call(Method::POST, "api/gc", &[], Some(params)).await;
        let answer: GcAnswer = self.or_too_old(answer, GC_POLICY, "keep anything but by age and pin").await?;
        Ok(answer.0)
    }

    /// A call of ours that a server of niks3 1.7 does not have.
    pub(super) async fn or_too_old<T>(
        &self,
        answer: Result<T, ClientError>,
        extension: &str,
        what: &'static str,
    ) -> Result<T, ClientError> {
        match answer {
            Err(error)
                if [Some(StatusCode::NOT_FOUND), Some(StatusCode::METHOD_NOT_ALLOWED)]
                    .contains(&error.status())
                    && !self.cache_config().await?.extensions.iter().any(|one| one == extension) =>
            {
                Err(ClientError::TooOld { host: self.host(), what })
            }
            answer => answer,
        }
    }

    pub(crate) async fn gc_runs(&self, limit: u32) -> Result<Vec<GcStatus>, ClientError> {
        let query = [("limit", limit.to_string())];
        let answer = self.call(Method::GET, "api/gc/runs", &query, None::<&()>).await;
        self.or_too_old(answer, GC_POLICY, "list its collections").await
    }

    pub(crate) async fn gc_run(&self, id: i64) -> Result<GcStatus, ClientError> {
        let answer = self.call(Method::GET, &format!("api/gc/runs/{id}"), &[], None::<&()>).await;
        self.or_too_old(answer, GC_POLICY, "show one of its collections").await
    }

    pub(crate) async fn abort_gc(&self) -> Result<(), ClientError> {
        let answer = self.send(Method::POST, "api/gc/abort", &[], None::<&()>).await;
        self.or_too_old(answer, GC_POLICY, "abort a collection").await.map(drop)
    }

    pub(crate) async fn gc_status(&self) -> Result<GcStatus, ClientError> {
        let answer: GcAnswer = self.call(Method::GET, "api/gc/status", &[], None::<&()>).await?;
        Ok(answer.0)
    }
}
