//! `HEAD /api/objects/{key}`

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use niks3_protocol::api::Permission;
use niks3_protocol::object_key::ObjectKey;

use super::Segment;
use crate::app::App;
use crate::auth::Identity;
use crate::error::ApiError;
use crate::push;

/// Whether a commit has seen the object.
pub async fn is_live(
    identity: Identity,
    State(app): State<Arc<App>>,
    Segment(key): Segment,
) -> Result<StatusCode, ApiError> {
    identity.may(Permission::Push)?;
    let key: ObjectKey = key.parse().map_err(|error| ApiError::BadRequest(format!("{error}")))?;
    let live = push::object_is_live(&app, &key).await?;
    Ok(if live { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND })
}
