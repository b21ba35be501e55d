//! Committed closures. (`/api/closures`)

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use niks3_protocol::api::closures::{Closure, RefreshRequest, RefreshResponse};

use super::permit::{May, Push};
use super::{Body, Segment};
use crate::app::App;
use crate::closures;
use crate::error::ApiError;

/// `GET /api/closures/{key}`
pub async fn find(
    _: May<Push>,
    State(app): State<Arc<App>>,
    Segment(key): Segment,
) -> Result<Json<Closure>, ApiError> {
    let found = closures::find(&app, &key).await?;
    found.map(Json).ok_or_else(|| ApiError::NotFound(format!("{key} is not a committed closure")))
}

/// `POST /api/closures/refresh`
pub async fn refresh(
    identity: May<Push>,
    State(app): State<Arc<App>>,
    Body(request): Body<RefreshRequest>,
) -> Result<Json<RefreshResponse>, ApiError> {
    Ok(Json(closures::refresh(&app, &identity, &request).await?))
}
