//! The handlers: extract, authorise, one call, answer. One file for the calls of one body module in `protocol`.

pub mod cache_config;
pub mod closures;
pub mod fsck;
pub mod gc;
pub mod health;
pub mod landing;
pub mod multipart;
pub mod objects;
pub mod openapi;
pub mod paths;
pub mod pending_closures;
pub mod permit;
pub mod pins;
pub mod proxy;
pub mod resign;
pub mod runs;
pub mod usage;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_ENCODING;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use crate::app::Settings;
use crate::error::ApiError;
use crate::json;

/// The part of the path that a route leaves open.
pub struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(segment)) => Ok(Self(segment)),
            Err(rejection) => Err(ApiError::BadRequest(rejection.body_text())),
        }
    }
}

/// The query.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(ApiError::BadRequest(rejection.body_text())),
        }
    }
}

/// Bodies longer than this are parsed where they hold nobody up.
const LONG_BODY: usize = 256 << 10;

/// A JSON body; a wrong one is answered with where it is wrong.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send + 'static> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = read(request, state).await?;
        if bytes.len() < LONG_BODY { parse(&bytes) } else { Parsing::start(bytes).end().await }.map(Self)
    }
}

/// The same, not parsed.
pub struct Unparsed(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Unparsed {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        read(request, state).await.map(Self)
    }
}

/// The same, while it is parsed.
pub struct Parsing<T>(JoinHandle<Result<T, ApiError>>);

impl<S: Send + Sync, T: DeserializeOwned + Send + 'static> FromRequest<S> for Parsing<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        Ok(Self::start(read(request, state).await?))
    }
}

impl<T: DeserializeOwned + Send + 'static> Parsing<T> {
    fn start(bytes: Bytes) -> Self {
        Self(tokio::task::spawn_blocking(move || parse(&bytes)))
    }

    /// The body.
    pub async fn end(self) -> Result<T, ApiError> {
        self.0.await.map_err(|error| ApiError::Internal(Box::new(error)))?
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    if let Some(encoding) = request.headers().get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(ApiError::Unsupported("send the body plain, without Content-Encoding".to_owned()));
    }
    Bytes::from_request(request, state).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::TooLarge("the body is longer than this call may have".to_owned())
        } else {
            ApiError::BadRequest("the body was cut off".to_owned())
        }
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    json::parse(bytes).map_err(ApiError::BadRequest)
}

/// Refuses a body that lists more than it may.
fn at_most(limit: usize, count: usize, what: &str) -> Result<(), ApiError> {
    json::at_most(limit, count, what).map_err(ApiError::TooLarge)
}

/// The text of `nix-cache-info`.
pub fn cache_info(settings: &Settings) -> String {
    format!(
        "StoreDir: {}\nWantMassQuery: {}\nPriority: {}\n",
        settings.store_dir,
        i32::from(settings.want_mass_query),
        settings.priority
    )
}
