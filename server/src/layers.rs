//! What is done around every handler: an id and a line in the log, limits, and the last line of defence.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::EXPECT;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::app::App;
use crate::error::ApiError;
use crate::telemetry::traces;

/// How long a refused client may go on sending before its connection is closed.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(10);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Ids of other servers on the way are kept, if they are no longer than this.
const MAX_REQUEST_ID: usize = 64;

tokio::task_local! {
    static CURRENT_ID: String;
}

/// The id of the request being answered.
pub fn request_id() -> Option<String> {
    CURRENT_ID.try_with(Clone::clone).ok()
}

/// Names, counts and logs each request.
pub async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("/{key}", MatchedPath::as_str).to_owned();
    let id = given_id(request.headers()).unwrap_or_else(new_id);
    let span =
        tracing::info_span!("request", method, route, request_id = id, identity = tracing::field::Empty);
    traces::continues(&span, request.headers());
    let started = Instant::now();
    let under_way = app.metrics.traffic.begin();
    let answering = CURRENT_ID.scope(id.clone(), next.run(request));
    let mut response = answering.instrument(span.clone()).await;
    let (status, took) = (response.status(), started.elapsed());
    drop(under_way);
    app.metrics.count_request(method, &route, status.as_u16(), took);
    traces::answered(&span, status);
    let (status_code, ms) = (status.as_u16(), took.as_millis());
    span.in_scope(|| match route.as_str() {
        // A probe asks every few seconds; what it is told is logged where it changes.
        "/readyz" | "/livez" | "/health" => tracing::debug!(status = status_code, ms, "probe"),
        _ if status.is_server_error() => tracing::warn!(status = status_code, ms, "request failed"),
        _ if matches!(method, "POST" | "DELETE") => tracing::info!(status = status_code, ms, "request"),
        _ => tracing::debug!(status = status_code, ms, "request"),
    });
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// One of few texts: it becomes a label.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::PUT => "PUT",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn given_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(REQUEST_ID)?.to_str().ok()?;
    let fits = (1..=MAX_REQUEST_ID).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    fits.then(|| text.to_owned())
}

fn new_id() -> String {
    let mut bytes = [0; 12];
    // Without randomness the id is of no use, and the request none the worse.
    let _ = getrandom::fill(&mut bytes);
    hex::encode(bytes)
}

/// A panic is a bug: its text is for the log alone.
#[expect(clippy::needless_pass_by_value, reason = "the layer calls it so")]
pub fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no text");
    ApiError::Internal(format!("the handler panicked: {text}").into()).into_response()
}

/// Turns API calls away until the schema is there, and ends those that take too long.
pub async fn limit_api(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    app.health.require_database()?;
    let limit = app.config.limits.call_timeout;
    tokio::time::timeout(limit.0, next.run(request)).await.map_err(|_| ApiError::Unavailable {
        after: Duration::from_secs(5),
        message: format!("the call took longer than {limit} and was ended"),
    })
}

/// How many bytes the body of a request may have. Who may not make the call at all is told that first, so it is
/// looked at where permissions are.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit(pub usize);

/// Says how long a body may be, and reads what a refusal left of it: a client in the middle of sending would see a
/// broken connection, not the answer, which does not wait for that.
pub async fn limit_body(State(limit): State<usize>, request: Request, next: Next) -> Response {
    let waits = request.headers().contains_key(EXPECT);
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(BodyLimit(limit));
    let (back, mut rest) = oneshot::channel();
    let lent = Lent { body: Some(body.into_data_stream()), back: Some(back) };
    let request = Request::from_parts(parts, Body::from_stream(lent));
    let response = next.run(request).await;
    // A client that waits for leave to send its body does not send it when it is not asked to.
    if !response.status().is_success()
        && !waits
        && let Ok(mut rest) = rest.try_recv()
    {
        let unread = async move { while let Some(Ok(_)) = rest.next().await {} };
        tokio::spawn(tokio::time::timeout(UNREAD_TIMEOUT, unread));
    }
    response
}

/// The refusal of a body longer than `limit`.
pub fn too_large(limit: usize) -> ApiError {
    ApiError::TooLarge(match limit {
        mebibytes if mebibytes % (1 << 20) == 0 => {
            format!("the body has more than the {} MiB this call may have", mebibytes >> 20)
        }
        bytes => format!("the body has more than the {bytes} bytes this call may have"),
    })
}

/// A body that goes back to its lender when its reader drops it before its end.
struct Lent {
    body: Option<BodyDataStream>,
    back: Option<oneshot::Sender<BodyDataStream>>,
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let item = ready!(body.poll_next_unpin(context));
        if !matches!(item, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(item)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            let _ = back.send(body);
        }
    }
}
