//! Multipart uploads. (`/api/multipart/…`)

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use niks3_protocol::api::multipart::{
    CompleteMultipartRequest, ListPartsRequest, ListPartsResponse, RequestPartsRequest, RequestPartsResponse,
};

use super::Body;
use super::permit::{May, Push};
use crate::app::App;
use crate::error::ApiError;
use crate::push;

/// `POST /api/multipart/request-parts`
pub async fn request_parts(
    caller: May<Push>,
    State(app): State<Arc<App>>,
    Body(request): Body<RequestPartsRequest>,
) -> Result<Json<RequestPartsResponse>, ApiError> {
    Ok(Json(push::request_parts(&app, &caller, &request).await?))
}

/// `POST /api/multipart/list-parts`
pub async fn list_parts(
    caller: May<Push>,
    State(app): State<Arc<App>>,
    Body(request): Body<ListPartsRequest>,
) -> Result<Json<ListPartsResponse>, ApiError> {
    Ok(Json(push::list_parts(&app, &caller, &request).await?))
}

/// `POST /api/multipart/complete`
pub async fn complete(
    caller: May<Push>,
    State(app): State<Arc<App>>,
    Body(request): Body<CompleteMultipartRequest>,
) -> Result<StatusCode, ApiError> {
    push::complete_multipart(&app, &caller, &request).await?;
    Ok(StatusCode::NO_CONTENT)
}
