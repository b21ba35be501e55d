//! Pins. (`/api/pins`)

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use niks3_protocol::api::pins::{CreatePinRequest, Pin};

use super::Body;
use super::permit::{May, MayPin, SeePins};
use crate::app::App;
use crate::error::ApiError;
use crate::pins;

/// `GET /api/pins`
pub async fn list(_: May<SeePins>, State(app): State<Arc<App>>) -> Result<Json<Vec<Pin>>, ApiError> {
    Ok(Json(pins::list(&app).await?))
}

/// `POST /api/pins/{name}`
pub async fn create(
    MayPin { identity, name }: MayPin,
    State(app): State<Arc<App>>,
    Body(request): Body<CreatePinRequest>,
) -> Result<StatusCode, ApiError> {
    if pins::create(&app, &identity, &name, &request).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiError::NotFound(format!(
        "{} was not pushed as a closure of its own; push it first",
        request.store_path
    )))
}

/// `DELETE /api/pins/{name}`
pub async fn delete(
    MayPin { name, .. }: MayPin,
    State(app): State<Arc<App>>,
) -> Result<StatusCode, ApiError> {
    if pins::delete(&app, &name).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiError::NotFound(format!("there is no pin {name}")))
}
