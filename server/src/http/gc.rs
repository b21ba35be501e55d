//! Collections. (`POST /api/gc`, `DELETE /api/closures`, `GET /api/gc/status`)

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use niks3_protocol::api::gc::{GcParams, GcStatus};
use niks3_protocol::duration::GoDuration;
use serde::Deserialize;
use serde_json::Value;

use super::permit::{Gc, May};
use super::runs::{ListQuery, number};
use super::{Asked, Body, Segment};
use crate::app::App;
use crate::error::ApiError;
use crate::gc;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StartQuery {
    older_than: GoDuration,
    #[serde(alias = "pending-older-than")]
    failed_uploads_older_than: Option<GoDuration>,
    deletion_grace: Option<GoDuration>,
    #[serde(default)]
    force: bool,
}

/// `DELETE /api/closures`
pub async fn start(
    _: May<Gc>,
    State(app): State<Arc<App>>,
    Asked(query): Asked<StartQuery>,
) -> Result<(StatusCode, Json<GcStatus>), ApiError> {
    app.health.require_storage()?;
    let params = GcParams {
        older_than: Some(query.older_than),
        failed_uploads_older_than: query
            .failed_uploads_older_than
            .unwrap_or(GcParams::default_failed_uploads()),
        force: query.force,
        deletion_grace: query.deletion_grace,
        ..GcParams::default()
    };
    Ok((StatusCode::ACCEPTED, Json(gc::start(&app, params).await?)))
}

/// `POST /api/gc`
pub async fn start_policy(
    _: May<Gc>,
    State(app): State<Arc<App>>,
    Body(policy): Body<Value>,
) -> Result<(StatusCode, Json<GcStatus>), ApiError> {
    app.health.require_storage()?;
    let params = parse(policy)?;
    Ok((StatusCode::ACCEPTED, Json(gc::start_policy(&app, params).await?)))
}

/// A limit that this version does not know may be one that keeps something: it is not passed over.
fn parse(policy: Value) -> Result<GcParams, ApiError> {
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
    let parsed = serde_path_to_error::deserialize(serde_ignored::Deserializer::new(policy, &mut note));
    let params = parsed.map_err(|error| {
        ApiError::BadRequest(format!("the policy is not right at {}: {}", error.path(), error.inner()))
    })?;
    if unknown.is_empty() {
        return Ok(params);
    }
    let fields = unknown.join(", ");
    Err(ApiError::BadRequest(format!("the policy has {fields}, which this server does not know")))
}

/// `GET /api/gc/runs?limit=20`
pub async fn list(
    _: May<Gc>,
    State(app): State<Arc<App>>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Vec<GcStatus>>, ApiError> {
    Ok(Json(gc::list(&app, query.limit()).await?))
}

/// `GET /api/gc/runs/{id}`
pub async fn find(
    _: May<Gc>,
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<GcStatus>, ApiError> {
    let found = gc::find(&app, number(&id)?).await?;
    found.map(Json).ok_or_else(|| ApiError::NotFound(format!("there is no run {id}")))
}

/// `POST /api/gc/abort`
pub async fn abort(_: May<Gc>, State(app): State<Arc<App>>) -> Result<StatusCode, ApiError> {
    if gc::abort(&app).await? {
        return Ok(StatusCode::ACCEPTED);
    }
    Err(ApiError::NotFound("no collection is running".to_owned()))
}

/// `GET /api/gc/status`
pub async fn status(_: May<Gc>, State(app): State<Arc<App>>) -> Result<Json<GcStatus>, ApiError> {
    let found = gc::status(&app).await?;
    found.map(Json).ok_or_else(|| ApiError::NotFound("there was no collection yet".to_owned()))
}
