//! Pushes. (`/api/pending_closures`)

use std::future::ready;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures::{StreamExt as _, stream};
use niks3_protocol::api::pending_closures::{
    AddressesRequest, AddressesResponse, BeginResponse, MAX_ADDRESSES, PendingObject, SignRequest,
    SignResponse,
};
use niks3_protocol::duration::GoDuration;
use serde::Deserialize;
use tracing::Instrument as _;

use super::permit::{Gc, May, Push};
use super::{Asked, Body, Parsing, Segment, Unparsed, at_most};
use crate::app::App;
use crate::error::ApiError;
use crate::parallel;
use crate::push::{self, Begun, Missing, PushError, PutAddresses, Reading, SignedAddresses};

/// The end of an answer to a begin: of its last field, and of itself.
const END: &str = "}}";

/// `POST /api/pending_closures`
pub async fn begin(
    caller: May<Push>,
    State(app): State<Arc<App>>,
    Unparsed(body): Unparsed,
) -> Result<Response, ApiError> {
    app.health.require_storage()?;
    let reading = Reading::start(body, app.config.limits.objects_per_upload);
    let (read, room) = tokio::join!(reading.begin(), push::require_room(&app, &caller));
    let (begin, numbering) = read?;
    room?;
    // To its end, should the client hang up: what it opens at S3 is written down.
    let (metrics, objects) = (Arc::clone(&app), begin.objects());
    let begun = finish(&metrics, async move { push::begin(&app, &caller, begin, numbering).await }).await;
    metrics.metrics.count_begin(objects, begun.is_ok());
    answer(begun?).map_err(|error| ApiError::Internal(Box::new(error)))
}

/// The answer to a begin, made a piece at a time on all cores: the addresses of a hundred thousand objects are tens of
/// MiB.
fn answer(begun: Begun) -> Result<Response, serde_json::Error> {
    let Begun { id, started_at, multiparts, missing, addresses, signed } = begun;
    let pending_objects = multiparts.into_iter().collect();
    let upload_headers = addresses.headers();
    let head = BeginResponse { id: id.to_string(), started_at, upload_headers, pending_objects };
    let empty = head.pending_objects.is_empty();
    let mut head = serde_json::to_vec(&head)?;
    let tail = head.split_off(head.len() - END.len());
    let signed = Arc::new(signed);
    let pieces = parallel::pieces(missing, move |number, objects| {
        fields(&addresses, &signed, objects, empty && number == 0)
    });
    let pieces = pieces.map(|piece| piece.map_err(std::io::Error::other)?.map_err(Into::into));
    let whole =
        stream::once(ready(Ok::<_, std::io::Error>(head))).chain(pieces).chain(stream::once(ready(Ok(tail))));
    Ok(([(CONTENT_TYPE, "application/json")], axum::body::Body::from_stream(whole)).into_response())
}

/// Fields of the answer's last object, a comma before each but its first.
fn fields(
    addresses: &PutAddresses,
    signed: &SignedAddresses,
    objects: Vec<Missing>,
    first: bool,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = Vec::new();
    for (number, Missing { key, kind }) in objects.into_iter().enumerate() {
        if number > 0 || !first {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, &key)?;
        text.push(b':');
        let presigned_url = signed.get(&key).cloned().or_else(|| addresses.of(&key, kind));
        serde_json::to_writer(&mut text, &PendingObject { kind, presigned_url, multipart_info: None })?;
    }
    Ok(text)
}

/// `POST /api/pending_closures/{id}/addresses`
pub async fn addresses(
    caller: May<Push>,
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Body(request): Body<AddressesRequest>,
) -> Result<Json<AddressesResponse>, ApiError> {
    at_most(MAX_ADDRESSES, request.objects.len(), "objects")?;
    Ok(Json(push::addresses(&app, &caller, parse_id(&id)?, request).await?))
}

/// `POST /api/pending_closures/{id}/sign`
pub async fn sign(
    caller: May<Push>,
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    request: Parsing<SignRequest>,
) -> Result<Json<SignResponse>, ApiError> {
    // PostgreSQL finds the upload while ten thousand narinfos are parsed.
    let (request, said) = tokio::join!(request.end(), push::find_said(&app, &caller, parse_id(&id)?));
    let request = request?;
    at_most(app.config.limits.paths_per_sign, request.narinfos.len(), "narinfos")?;
    Ok(Json(push::sign(&app, said?, request).await?))
}

/// `POST /api/pending_closures/{id}/complete`
pub async fn complete(
    caller: May<Push>,
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<StatusCode, ApiError> {
    app.health.require_storage()?;
    let id = parse_id(&id)?;
    // To its end, should the client hang up: a commit cut off leaves narinfos that others then wait for.
    let (metrics, started) = (Arc::clone(&app), Instant::now());
    let committed = finish(&metrics, async move { push::complete(&app, &caller, id).await }).await;
    metrics.metrics.count_commit(started.elapsed(), committed.is_ok());
    committed.map(|()| StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
pub struct ExpireQuery {
    #[serde(rename = "older-than")]
    older_than: GoDuration,
}

/// `DELETE /api/pending_closures?older-than=1h`
pub async fn expire(
    _: May<Gc>,
    State(app): State<Arc<App>>,
    Asked(query): Asked<ExpireQuery>,
) -> Result<StatusCode, ApiError> {
    push::expire(&app, query.older_than.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Runs a call whoever waits for it, and as long as the server has to end.
async fn finish<T: Send + 'static>(
    app: &App,
    call: impl Future<Output = Result<T, PushError>> + Send + 'static,
) -> Result<T, ApiError> {
    let result = app.detached.spawn(call.in_current_span()).await;
    Ok(result.map_err(|error| ApiError::Internal(Box::new(error)))??)
}

fn parse_id(text: &str) -> Result<i64, ApiError> {
    text.parse().map_err(|_| ApiError::NotFound(format!("{text:?} is not the id of an upload")))
}
