//! What anybody may know of the cache, and what a caller may know of itself.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use axum::response::IntoResponse;
use niks3_protocol::api::WhoAmI;
use niks3_protocol::api::cache_config::{
    BOUND_ADDRESSES, BUILD_TRACE, CacheConfig, CacheStats, EXPLAIN, FSCK, GC_POLICY, MULTI_ROOT, REFRESH,
    RESUME, SERVER_NARINFOS,
};
use serde::Deserialize;
use tokio::time::Instant;

use super::Asked;
use crate::app::App;
use crate::auth::Identity;
use crate::closures;
use crate::error::ApiError;

/// Statistics are counted at most so often.
const STATS_AGE: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize)]
pub struct ConfigQuery {
    issuer: Option<String>,
}

/// `GET /api/cache-config`
pub async fn config(State(app): State<Arc<App>>, Asked(query): Asked<ConfigQuery>) -> Json<CacheConfig> {
    let always = [MULTI_ROOT, REFRESH, RESUME, SERVER_NARINFOS, GC_POLICY, EXPLAIN, FSCK, BUILD_TRACE];
    let bound = app.config.bound.then_some(BOUND_ADDRESSES);
    Json(CacheConfig {
        substituter_url: app.config.cache_url.clone(),
        public_keys: app.signer.public_keys(),
        oidc_audience: app.auth.audience_of(query.issuer.as_deref()),
        extensions: always.into_iter().chain(bound).map(str::to_owned).collect(),
        server_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
    })
}

/// `GET /api/cache-stats`
pub async fn stats(State(app): State<Arc<App>>) -> Result<impl IntoResponse, ApiError> {
    let known = *app.stats.lock().unwrap_or_else(PoisonError::into_inner);
    let stats: CacheStats = match known {
        Some((counted, stats)) if counted.elapsed() < STATS_AGE => stats,
        _ => {
            let stats = closures::stats(&app).await?;
            *app.stats.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), stats));
            stats
        }
    };
    Ok(([(ACCESS_CONTROL_ALLOW_ORIGIN, "*")], Json(stats)))
}

/// `GET /api/whoami`
pub async fn whoami(identity: Identity) -> Json<WhoAmI> {
    Json(identity.describe())
}
