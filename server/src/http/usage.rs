//! What takes the space. (`GET /api/usage`)

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use niks3_protocol::api::usage::Usage;
use serde::Deserialize;

use super::Asked;
use super::permit::{May, SeeGraph};
use crate::app::App;
use crate::error::ApiError;
use crate::push::PushError;
use crate::{closures, db, gc};

/// Closures a list has where it is not said, and at most.
const LISTED: u16 = 20;
const MAX_LISTED: u16 = 1000;
/// A scrape waits so long for the cache to be counted; the next one has it.
const COUNTING: Duration = Duration::from_secs(1);

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

/// What `/metrics` tells of the cache as a whole, counted as seldom as for `/api/cache-stats`.
pub async fn note_inventory(app: &Arc<App>) {
    if app.health.require_database().is_err() {
        return app.metrics.former.note_inventory(None);
    }
    let app = Arc::clone(app);
    // It ends whether it is waited for or not: a count that is dear would never be had.
    let counting = tokio::spawn(async move {
        let stats = app.stats.read(|| closures::stats(&app)).await;
        let pending = app.pending.read(|| count_pending(&app)).await;
        app.metrics.former.note_inventory(stats.ok().zip(pending.ok()));
    });
    let _ = tokio::time::timeout(COUNTING, counting).await;
}

async fn count_pending(app: &App) -> Result<i64, PushError> {
    let mut conn = app.db.acquire().await?;
    Ok(db::uploads::count_open(&mut conn, "").await?.all)
}
