//! Signing stored narinfos again. (`/api/resign`)

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use niks3_protocol::api::resign::ResignStatus;

use super::permit::{Admin, May};
use crate::app::App;
use crate::error::ApiError;
use crate::resign;

/// `POST /api/resign`
pub async fn start(
    _: May<Admin>,
    State(app): State<Arc<App>>,
) -> Result<(StatusCode, Json<ResignStatus>), ApiError> {
    app.health.require_storage()?;
    Ok((StatusCode::ACCEPTED, Json(resign::start(&app).await?)))
}

/// `GET /api/resign`: counts and public keys, which need no identity.
pub async fn status(State(app): State<Arc<App>>) -> Result<Json<ResignStatus>, ApiError> {
    let found = resign::status(&app).await?;
    found.map(Json).ok_or_else(|| ApiError::NotFound("narinfos were never signed again".to_owned()))
}
