//! Comparing bucket and rows. (`POST /api/fsck`)

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use niks3_protocol::api::fsck::{FsckParams, FsckStatus};

use super::permit::{Gc, May};
use super::runs::{ListQuery, number};
use super::{Asked, Body, Segment};
use crate::app::App;
use crate::error::ApiError;
use crate::fsck;

/// `POST /api/fsck`
pub async fn start(
    _: May<Gc>,
    State(app): State<Arc<App>>,
    Body(params): Body<FsckParams>,
) -> Result<(StatusCode, Json<FsckStatus>), ApiError> {
    app.health.require_storage()?;
    Ok((StatusCode::ACCEPTED, Json(fsck::start(&app, params).await?)))
}

/// `GET /api/fsck/runs?limit=20`
pub async fn list(
    _: May<Gc>,
    State(app): State<Arc<App>>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Vec<FsckStatus>>, ApiError> {
    Ok(Json(fsck::list(&app, query.limit()).await?))
}

/// `GET /api/fsck/runs/{id}`
pub async fn find(
    _: May<Gc>,
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<FsckStatus>, ApiError> {
    let found = fsck::find(&app, number(&id)?).await?;
    found.map(Json).ok_or_else(|| ApiError::NotFound(format!("there is no comparison {id}")))
}

/// `POST /api/fsck/abort`
pub async fn abort(_: May<Gc>, State(app): State<Arc<App>>) -> Result<StatusCode, ApiError> {
    if fsck::abort(&app).await? {
        return Ok(StatusCode::ACCEPTED);
    }
    Err(ApiError::NotFound("no comparison is running".to_owned()))
}

/// `GET /api/fsck/status`
pub async fn status(_: May<Gc>, State(app): State<Arc<App>>) -> Result<Json<FsckStatus>, ApiError> {
    let found = fsck::status(&app).await?;
    found.map(Json).ok_or_else(|| ApiError::NotFound("there was no comparison yet".to_owned()))
}
