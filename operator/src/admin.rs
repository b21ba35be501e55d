//! /livez, /readyz and /metrics.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// Serves until `stop`.
pub async fn serve(addr: SocketAddr, context: Arc<Context>, stop: CancellationToken) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(context);
    let listener = tokio::net::TcpListener::bind(addr).await?;
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// Ready is who can reach the API server; it need not be the leader.
async fn readyz(State(context): State<Arc<Context>>) -> Response {
    match context.client.apiserver_version().await {
        Ok(_) => "ok".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("the API server cannot be reached: {error}"))
            .into_response(),
    }
}

async fn metrics(State(context): State<Arc<Context>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match context.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
