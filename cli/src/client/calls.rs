//! The server's calls, one method each.

use niks3_protocol::api::WhoAmI;
use niks3_protocol::api::cache_config::CacheConfig;
use niks3_protocol::api::closures::{Closure, RefreshRequest, RefreshResponse};
use niks3_protocol::api::multipart::{
    CompleteMultipartRequest, ListPartsRequest, ListPartsResponse, RequestPartsRequest, RequestPartsResponse,
};
use niks3_protocol::api::pending_closures::{
    AddressesRequest, AddressesResponse, BeginRequest, BeginResponse, SignRequest, SignResponse,
};
use niks3_protocol::api::pins::{CreatePinRequest, Pin, PinName};
use niks3_protocol::nix::StorePath;
use reqwest::{Method, StatusCode};

use super::{Client, ClientError};

impl Client {
    pub(crate) async fn cache_config(&self) -> Result<CacheConfig, ClientError> {
        let answer = self.call(Method::GET, "api/cache-config", &[], None::<&()>).await;
        answer.map_err(|error| match error.status() {
            Some(status @ (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)) => {
                ClientError::NotNiks3 {
                    host: self.host(),
                    problem: format!("/api/cache-config gives {status}"),
                }
            }
            _ => error,
        })
    }

    pub(crate) async fn whoami(&self) -> Result<WhoAmI, ClientError> {
        match self.call(Method::GET, "api/whoami", &[], None::<&()>).await {
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
                self.cache_config().await?;
                Err(ClientError::TooOld { host: self.host(), what: "say who you are" })
            }
            answer => answer,
        }
    }

    /// Which of the roots are there already; `None` where the server is too old to say.
    pub(crate) async fn refresh(
        &self,
        closures: Vec<String>,
    ) -> Result<Option<RefreshResponse>, ClientError> {
        let body = RefreshRequest { closures };
        match self.call(Method::POST, "api/closures/refresh", &[], Some(&body)).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error)
                if matches!(
                    error.status(),
                    Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn begin(&self, request: &BeginRequest) -> Result<BeginResponse, ClientError> {
        self.call(Method::POST, "api/pending_closures", &[], Some(request)).await
    }

    pub(crate) async fn addresses(
        &self,
        id: &str,
        request: &AddressesRequest,
    ) -> Result<AddressesResponse, ClientError> {
        let answer = self
            .call(Method::POST, &format!("api/pending_closures/{id}/addresses"), &[], Some(request))
            .await;
        answer.map_err(|error| match error.status() {
            // While a cache gets a new version, a replica may not know yet what another one offered.
            Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => {
                ClientError::TooOld { host: self.host(), what: "bind upload addresses to bytes" }
            }
            _ => error,
        })
    }

    pub(crate) async fn sign(&self, id: &str, request: &SignRequest) -> Result<SignResponse, ClientError> {
        self.call(Method::POST, &format!("api/pending_closures/{id}/sign"), &[], Some(request)).await
    }

    /// Commits. Where the answer to an earlier attempt was lost, the closure is found committed.
    pub(crate) async fn complete(&self, id: &str, root: &str) -> Result<(), ClientError> {
        let path = format!("api/pending_closures/{id}/complete");
        match self.send(Method::POST, &path, &[], None::<&()>).await {
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
                let found = self.call(Method::GET, &format!("api/closures/{root}"), &[], None::<&()>).await;
                found.map(|_: Closure| ()).map_err(|_| error)
            }
            result => result.map(drop),
        }
    }

    pub(crate) async fn request_parts(
        &self,
        request: &RequestPartsRequest,
    ) -> Result<RequestPartsResponse, ClientError> {
        self.call(Method::POST, "api/multipart/request-parts", &[], Some(request)).await
    }

    pub(crate) async fn list_parts(
        &self,
        request: &ListPartsRequest,
    ) -> Result<ListPartsResponse, ClientError> {
        self.call(Method::POST, "api/multipart/list-parts", &[], Some(request)).await
    }

    pub(crate) async fn complete_multipart(
        &self,
        request: &CompleteMultipartRequest,
    ) -> Result<(), ClientError> {
        self.send(Method::POST, "api/multipart/complete", &[], Some(request)).await.map(drop)
    }

    pub(crate) async fn pins(&self) -> Result<Vec<Pin>, ClientError> {
        self.call(Method::GET, "api/pins", &[], None::<&()>).await
    }

    pub(crate) async fn create_pin(&self, name: &PinName, path: &StorePath) -> Result<(), ClientError> {
        let body = CreatePinRequest { store_path: path.to_string() };
        self.send(Method::POST, &format!("api/pins/{name}"), &[], Some(&body)).await.map(drop)
    }

    pub(crate) async fn delete_pin(&self, name: &PinName) -> Result<(), ClientError> {
        self.send(Method::DELETE, &format!("api/pins/{name}"), &[], None::<&()>).await.map(drop)
    }
}
