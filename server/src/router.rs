//! Every route and every layer, on one screen.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, head, post};
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

use crate::app::App;
use crate::error::ApiError;
use crate::http::{
    cache_config, closures, gc, health, landing, multipart, objects, pending_closures, pins, proxy,
};

/// Bodies that list a closure: 128 MiB, as in niks3 1.7.
const CLOSURE_BODY: usize = 128 << 20;
/// All other bodies.
const SMALL_BODY: usize = 1 << 20;
/// The longest an API call may take; a commit of ten thousand objects needs a second or two.
const API_TIMEOUT: Duration = Duration::from_mins(10);

/// The whole surface of the server.
pub fn router(app: &Arc<App>) -> Router {
    let api = Router::new()
        .route("/api/cache-config", get(cache_config::config))
        .route("/api/cache-stats", get(cache_config::stats))
        .route("/api/whoami", get(cache_config::whoami))
        .route("/api/pending_closures", post(pending_closures::begin).delete(pending_closures::expire))
        .route("/api/pending_closures/{id}/sign", post(pending_closures::sign))
        .layer(DefaultBodyLimit::max(CLOSURE_BODY))
        .merge(
            Router::new()
                .route("/api/pending_closures/{id}/complete", post(pending_closures::complete))
                .route("/api/multipart/request-parts", post(multipart::request_parts))
                .route("/api/multipart/complete", post(multipart::complete))
                .route("/api/objects/{*key}", head(objects::is_live))
                .route("/api/closures", axum::routing::delete(gc::start))
                .route("/api/closures/refresh", post(closures::refresh))
                .route("/api/closures/{key}", get(closures::find))
                .route("/api/gc/status", get(gc::status))
                .route("/api/pins", get(pins::list))
                .route("/api/pins/{name}", post(pins::create).delete(pins::delete))
                .layer(DefaultBodyLimit::max(SMALL_BODY)),
        )
        .layer(from_fn_with_state(Arc::clone(app), limit_api));
    Router::new()
        .merge(api)
        .route("/health", get(health::health))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/", get(landing::index))
        .fallback(proxy::read)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(app), observe))
        .layer(CatchPanicLayer::new())
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .with_state(Arc::clone(app))
}

/// Turns API calls away until the schema is there, and ends those that take too long.
async fn limit_api(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, ApiError> {
    app.health.require_database()?;
    tokio::time::timeout(API_TIMEOUT, next.run(request)).await.map_err(|_| ApiError::Unavailable {
        after: Duration::from_secs(5),
        message: format!("the call took longer than {API_TIMEOUT:?} and was ended"),
    })
}

/// Counts and logs each request by its route.
async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("/{key}".to_owned(), |path| path.as_str().to_owned());
    let id =
        request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let started = Instant::now();
    let response = next.run(request).await;
    let (status, took) = (response.status(), started.elapsed());
    app.metrics.count_request(method.as_str(), &route, status.as_u16(), took);
    let ms = took.as_millis();
    // A probe asks every few seconds; what it is told is logged where it changes.
    let probe = matches!(route.as_str(), "/readyz" | "/livez" | "/health");
    if status.is_server_error() && !probe {
        tracing::warn!(%method, route, status = status.as_u16(), ms, request_id = id, "request failed");
    } else {
        tracing::debug!(%method, route, status = status.as_u16(), ms, request_id = id, "request");
    }
    response
}

async fn method_not_allowed(request: Request) -> ApiError {
    ApiError::MethodNotAllowed(format!("{} is not possible on {}", request.method(), request.uri().path()))
}
