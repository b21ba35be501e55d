//! Pins. (`/api/pins`)

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use niks3_protocol::api::Permission;
use niks3_protocol::api::pins::{CreatePinRequest, Pin, PinName};

use super::{Body, Segment};
use crate::app::App;
use crate::auth::Identity;
use crate::error::ApiError;
use crate::pins;

/// `GET /api/pins`
pub async fn list(identity: Identity, State(app): State<Arc<App>>) -> Result<Json<Vec<Pin>>, ApiError> {
    if identity.may(Permission::Read).is_err() && identity.may(Permission::Push).is_err() {
        identity.may(Permission::Pin)?;
    }
    Ok(Json(pins::list(&app).await?))
}

/// `POST /api/pins/{name}`
pub async fn create(
    identity: Identity,
    State(app): State<Arc<App>>,
    Segment(name): Segment,
    Body(request): Body<CreatePinRequest>,
) -> Result<StatusCode, ApiError> {
    let name = parse(&name)?;
    identity.may_pin(&name)?;
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
    identity: Identity,
    State(app): State<Arc<App>>,
    Segment(name): Segment,
) -> Result<StatusCode, ApiError> {
    let name = parse(&name)?;
    identity.may_pin(&name)?;
    if pins::delete(&app, &name).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiError::NotFound(format!("there is no pin {name}")))
}

fn parse(name: &str) -> Result<PinName, ApiError> {
    name.parse().map_err(|error| ApiError::BadRequest(format!("{error}")))
}
