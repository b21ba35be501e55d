//! Collections. (`DELETE /api/closures`, `GET /api/gc/status`)

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use niks3_protocol::api::Permission;
use niks3_protocol::api::gc::{GcParams, GcStatus};
use niks3_protocol::duration::GoDuration;
use serde::Deserialize;

use crate::app::App;
use crate::auth::Identity;
use crate::error::ApiError;
use crate::gc;

/// What niks3 1.7 takes where the second parameter is left out.
const DEFAULT_FAILED_UPLOADS: GoDuration = GoDuration::hours(6);

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
    identity: Identity,
    State(app): State<Arc<App>>,
    query: Result<Query<StartQuery>, QueryRejection>,
) -> Result<(StatusCode, Json<GcStatus>), ApiError> {
    identity.may(Permission::Gc)?;
    let Query(query) = query.map_err(|rejection| ApiError::BadRequest(rejection.body_text()))?;
    let params = GcParams {
        older_than: query.older_than,
        failed_uploads_older_than: query.failed_uploads_older_than.unwrap_or(DEFAULT_FAILED_UPLOADS),
        force: query.force,
        deletion_grace: query.deletion_grace,
    };
    Ok((StatusCode::ACCEPTED, Json(gc::start(&app, params).await?)))
}

/// `GET /api/gc/status`
pub async fn status(identity: Identity, State(app): State<Arc<App>>) -> Result<Json<GcStatus>, ApiError> {
    identity.may(Permission::Gc)?;
    let found = gc::status(&app).await?;
    found.map(Json).ok_or_else(|| ApiError::NotFound("there was no collection yet".to_owned()))
}
