//! Comparing bucket and rows. (`POST /api/fsck`)

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use niks3_protocol::api::Permission;
use niks3_protocol::api::fsck::{FsckParams, FsckStatus};

use super::runs::{ListQuery, number};
use super::{Asked, Body, Segment};
use crate::app::App;
use crate::auth::Identity;
use crate::error::ApiError;
use crate::fsck;

/// `POST /api/fsck`
pub async fn start(
    identity: Identity,
    State(app): State<Arc<App>>,
    Body(params): Body<FsckParams>,
) -> Result<(StatusCode, Json<FsckStatus>), ApiError> {
    identity.may(Permission::Gc)?;
    app.health.require_storage()?;
    Ok((StatusCode::ACCEPTED, Json(fsck::start(&app, params).await?)))
}

/// `GET /api/fsck/runs?limit=20`
pub async fn list(
    identity: Identity,
    State(app): State<Arc<App>>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Vec<FsckStatus>>, ApiError> {
    identity.may(Permission::Gc)?;
    Ok(Json(fsck::list(&app, query.limit()).await?))
}

/// `GET /api/fsck/runs/{id}`
pub async fn find(
    identity: Identity,
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<FsckStatus>, ApiError> {
    identity.may(Permission::Gc)?;
    let found = fsck::find(&app, number(&id)?).await?;
    found.map(Json).ok_or_else(|| ApiError::NotFound(format!("there is no comparison {id}")))
}

/// `POST /api/fsck/abort`
pub async fn abort(identity: Identity, State(app): State<Arc<App>>) -> Result<StatusCode, ApiError> {
    identity.may(Permission::Gc)?;
    if fsck::abort(&app).await? {
        return Ok(StatusCode::ACCEPTED);
    }
    Err(ApiError::NotFound("no comparison is running".to_owned()))
}

/// `GET /api/fsck/status`
pub async fn status(identity: Identity, State(app): State<Arc<App>>) -> Result<Json<FsckStatus>, ApiError> {
    identity.may(Permission::Gc)?;
    let found = fsck::status(&app).await?;
    found.map(Json).ok_or_else(|| ApiError::NotFound("there was no comparison yet".to_owned()))
}
