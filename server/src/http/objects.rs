//! `HEAD /api/objects/{key}`

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use niks3_protocol::object_key::ObjectKey;

use super::Segment;
use super::permit::{May, Push};
use crate::app::App;
use crate::error::ApiError;
use crate::push;

/// Whether a commit has seen the object.
pub async fn is_live(
    _: May<Push>,
    State(app): State<Arc<App>>,
    Segment(key): Segment,
) -> Result<StatusCode, ApiError> {
    let key: ObjectKey = key.parse().map_err(|error| ApiError::BadRequest(format!("{error}")))?;
    let live = push::object_is_live(&app, &key).await?;
    Ok(if live { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND })
}
