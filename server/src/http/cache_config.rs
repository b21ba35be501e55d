//! What anybody may know of the cache, and what a caller may know of itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use axum::response::IntoResponse;
use niks3_protocol::api::WhoAmI;
use niks3_protocol::api::cache_config::{
    BOUND_ADDRESSES, BUILD_TRACE, CacheConfig, EXPLAIN, FSCK, GC_POLICY, MULTI_ROOT, REFRESH, RESUME,
    SERVER_NARINFOS, UPLOAD_HEADERS,
};
use serde::Deserialize;

use super::Asked;
use crate::app::App;
use crate::auth::Identity;
use crate::closures;
use crate::error::ApiError;

#[derive(Debug, Deserialize)]
pub struct ConfigQuery {
    issuer: Option<String>,
}

/// `GET /api/cache-config`
pub async fn config(State(app): State<Arc<App>>, Asked(query): Asked<ConfigQuery>) -> Json<CacheConfig> {
    let always = [MULTI_ROOT, REFRESH, RESUME, SERVER_NARINFOS, GC_POLICY, EXPLAIN, FSCK, BUILD_TRACE];
    let bound = app.config.bound.then_some(BOUND_ADDRESSES);
    let headers = app.bucket.config().encryption.as_ref().map(|_| UPLOAD_HEADERS);
    Json(CacheConfig {
        substituter_url: app.config.cache_url.clone(),
        public_keys: app.keys.now().signer.public_keys(),
        oidc_audience: app.auth.audience_of(query.issuer.as_deref()),
        extensions: always.into_iter().chain(bound).chain(headers).map(str::to_owned).collect(),
        store_dir: Some(app.config.store_dir.clone()),
        server_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
    })
}

/// `GET /api/cache-stats`
pub async fn stats(State(app): State<Arc<App>>) -> Result<impl IntoResponse, ApiError> {
    let stats = app.stats.read(|| closures::stats(&app)).await?;
    Ok(([(ACCESS_CONTROL_ALLOW_ORIGIN, "*")], Json(stats)))
}

/// `GET /api/whoami`
pub async fn whoami(identity: Identity) -> Json<WhoAmI> {
    Json(identity.describe())
}
