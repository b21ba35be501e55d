//! What takes the space. (`GET /api/usage`)

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use niks3_protocol::api::usage::Usage;
use serde::Deserialize;

use super::Asked;
use super::permit::{May, SeeGraph};
use crate::app::App;
use crate::error::ApiError;
use crate::gc;

/// Closures a list has where it is not said, and at most.
const LISTED: u16 = 20;
const MAX_LISTED: u16 = 1000;

#[derive(Debug, Deserialize)]
pub struct UsageQuery {
    limit: Option<u16>,
}

/// `GET /api/usage?limit=20`.
pub async fn usage(
    _: May<SeeGraph>,
    State(app): State<Arc<App>>,
    Asked(query): Asked<UsageQuery>,
) -> Result<Json<Usage>, ApiError> {
    let limit = query.limit.unwrap_or(LISTED);
    if limit > MAX_LISTED {
        return Err(ApiError::BadRequest(format!("limit {limit} is more than {MAX_LISTED}")));
    }
    Ok(Json(gc::usage(&app, limit.into()).await?))
}
