//! The handlers: extract, authorise, one call, answer. One file for the calls of one body module in `protocol`.

pub mod cache_config;
pub mod closures;
pub mod gc;
pub mod health;
pub mod landing;
pub mod multipart;
pub mod objects;
pub mod pending_closures;
pub mod pins;
pub mod proxy;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::app::Settings;
use crate::error::ApiError;

/// A JSON body; a wrong one is answered with where it is wrong.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::TooLarge("the body is larger than this call may have".to_owned())
            } else {
                ApiError::BadRequest("the body was cut off".to_owned())
            }
        })?;
        let parsed = serde_json::from_slice(&bytes);
        parsed
            .map(Self)
            .map_err(|error| ApiError::BadRequest(format!("the body is not what it should be: {error}")))
    }
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
