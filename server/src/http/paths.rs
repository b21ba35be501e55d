//! Store paths and who pushed them. (`/api/paths`)

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use niks3_protocol::api::gc::{DeleteRequest, GcStatus};
use niks3_protocol::api::paths::PathDetails;
use niks3_protocol::api::usage::Why;
use niks3_protocol::nix::StorePathHash;

use super::permit::{Admin, May, SeeGraph, SeePaths};
use super::{Body, Segment};
use crate::app::App;
use crate::closures;
use crate::error::ApiError;
use crate::gc;

/// `GET /api/paths/{hash}`
pub async fn find(
    _: May<SeePaths>,
    State(app): State<Arc<App>>,
    Segment(hash): Segment,
) -> Result<Json<PathDetails>, ApiError> {
    let hash = parse(&hash)?;
    let found = closures::find_path(&app, &hash).await?;
    found.map(Json).ok_or_else(|| ApiError::NotFound(format!("no path with the hash {hash} was pushed")))
}

/// `GET /api/paths/{hash}/why`.
pub async fn why(
    _: May<SeeGraph>,
    State(app): State<Arc<App>>,
    Segment(hash): Segment,
) -> Result<Json<Why>, ApiError> {
    let hash = parse(&hash)?;
    gc::why(&app, &hash)
        .await?
        .map(Json)
        .ok_or_else(|| gc::GcError::NotThere(format!("{hash}.narinfo")).into())
}

/// `POST /api/paths/{hash}/delete`
pub async fn delete(
    _: May<Admin>,
    State(app): State<Arc<App>>,
    Segment(hash): Segment,
    Body(request): Body<DeleteRequest>,
) -> Result<(StatusCode, Json<GcStatus>), ApiError> {
    app.health.require_storage()?;
    Ok((StatusCode::ACCEPTED, Json(gc::start_delete(&app, parse(&hash)?, request).await?)))
}

fn parse(hash: &str) -> Result<StorePathHash, ApiError> {
    hash.parse().map_err(|error| ApiError::BadRequest(format!("{error}")))
}
