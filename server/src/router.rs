//! Every route and every layer, on one screen.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, head, post};
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::App;
use crate::error::ApiError;
use crate::http::{
    cache_config, closures, fsck, gc, health, landing, multipart, objects, openapi, paths, pending_closures,
    pins, proxy, resign, usage,
};
use crate::layers;

/// The whole surface of the server.
pub fn router(app: &Arc<App>) -> Router {
    // Bodies that list a closure, and all others.
    let (closure, small) = (app.config.limits.closure_body_bytes, app.config.limits.body_bytes);
    let api = Router::new()
        .route("/api/cache-config", get(cache_config::config))
        .route("/api/cache-stats", get(cache_config::stats))
        .route("/api/whoami", get(cache_config::whoami))
        .route(
            "/api/pending_closures",
            sized(closure, post(pending_closures::begin).delete(pending_closures::expire)),
        )
        .route("/api/pending_closures/{id}/addresses", sized(small, post(pending_closures::addresses)))
        .route("/api/pending_closures/{id}/sign", sized(closure, post(pending_closures::sign)))
        .route("/api/pending_closures/{id}/complete", sized(small, post(pending_closures::complete)))
        .route("/api/multipart/request-parts", sized(small, post(multipart::request_parts)))
        .route("/api/multipart/list-parts", sized(small, post(multipart::list_parts)))
        .route("/api/multipart/complete", sized(small, post(multipart::complete)))
        .route("/api/objects/{*key}", head(objects::is_live))
        .route("/api/closures", delete(gc::start))
        .route("/api/closures/refresh", sized(small, post(closures::refresh)))
        .route("/api/closures/{key}", get(closures::find))
        .route("/api/gc", sized(small, post(gc::start_policy)))
        .route("/api/gc/abort", post(gc::abort))
        .route("/api/gc/runs", get(gc::list))
        .route("/api/gc/runs/{id}", get(gc::find))
        .route("/api/paths/{hash}", get(paths::find))
        .route("/api/paths/{hash}/why", get(paths::why))
        .route("/api/paths/{hash}/delete", sized(small, post(paths::delete)))
        .route("/api/usage", get(usage::usage))
        .route("/api/gc/status", get(gc::status))
        .route("/api/fsck", sized(small, post(fsck::start)))
        .route("/api/fsck/abort", post(fsck::abort))
        .route("/api/fsck/runs", get(fsck::list))
        .route("/api/fsck/runs/{id}", get(fsck::find))
        .route("/api/fsck/status", get(fsck::status))
        .route("/api/resign", get(resign::status).post(resign::start))
        .route("/api/pins", get(pins::list))
        .route("/api/pins/{name}", sized(small, post(pins::create).delete(pins::delete)))
        .layer(from_fn_with_state(Arc::clone(app), layers::limit_api));
    Router::new()
        .merge(api)
        .route("/api/openapi.json", get(openapi::document))
        .route("/health", get(health::health))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/", get(landing::index))
        .route("/index.html", get(landing::index))
        .fallback(proxy::read)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(from_fn_with_state(Arc::clone(app), layers::observe))
        .with_state(Arc::clone(app))
}

/// Routes with bodies of at most `limit` bytes.
fn sized(limit: usize, routes: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    routes.layer(DefaultBodyLimit::max(limit)).layer(from_fn_with_state(limit, layers::limit_body))
}

async fn method_not_allowed(request: Request) -> ApiError {
    ApiError::MethodNotAllowed(format!("{} is not possible on {}", request.method(), request.uri().path()))
}
