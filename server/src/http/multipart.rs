//! Multipart uploads. (`/api/multipart/…`)

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use niks3_protocol::api::Permission;
use niks3_protocol::api::multipart::{
    CompleteMultipartRequest, ListPartsRequest, ListPartsResponse, RequestPartsRequest, RequestPartsResponse,
};

use super::Body;
use crate::app::App;
use crate::auth::Identity;
use crate::error::ApiError;
use crate::push;

/// `POST /api/multipart/request-parts`
pub async fn request_parts(
    identity: Identity,
    State(app): State<Arc<App>>,
    Body(request): Body<RequestPartsRequest>,
) -> Result<Json<RequestPartsResponse>, ApiError> {
    identity.may(Permission::Push)?;
    Ok(Json(push::request_parts(&app, &identity, &request).await?))
}

/// `POST /api/multipart/list-parts`
pub async fn list_parts(
    identity: Identity,
    State(app): State<Arc<App>>,
    Body(request): Body<ListPartsRequest>,
) -> Result<Json<ListPartsResponse>, ApiError> {
    identity.may(Permission::Push)?;
    Ok(Json(push::list_parts(&app, &identity, &request).await?))
}

/// `POST /api/multipart/complete`
pub async fn complete(
    identity: Identity,
    State(app): State<Arc<App>>,
    Body(request): Body<CompleteMultipartRequest>,
) -> Result<StatusCode, ApiError> {
    identity.may(Permission::Push)?;
    push::complete_multipart(&app, &identity, &request).await?;
    Ok(StatusCode::NO_CONTENT)
}
