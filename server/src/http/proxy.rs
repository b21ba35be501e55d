//! Reads, where the bucket is private: narinfos and NARs from the bucket, streamed in bounded memory.

use std::sync::Arc;

use async_compression::tokio::bufread::ZstdDecoder;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use niks3_protocol::object_key::{CACHE_INFO, ObjectKey, ObjectKind};
use percent_encoding::percent_decode_str;
use tokio_util::io::ReaderStream;

use super::cache_info;
use crate::app::App;
use crate::bucket::{ObjectRead, ReadAnswer, ReadRequest};
use crate::error::ApiError;

/// Bytes read from S3 at a time for one reader.
const CHUNK: usize = 64 << 10;

/// Everything that is no other route.
pub async fn read(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return Err(ApiError::NotFound(format!(
            "there is no call {} {}",
            request.method(),
            request.uri().path()
        )));
    }
    let path = percent_decode_str(request.uri().path()).decode_utf8_lossy();
    let key = path.strip_prefix('/').unwrap_or(&path);
    if key == CACHE_INFO {
        return Ok(
            ([(header::CONTENT_TYPE, "text/x-nix-cache-info")], cache_info(&app.config)).into_response()
        );
    }
    if !app.config.read_proxy {
        return Ok(miss("this server does not serve objects; read from the bucket"));
    }
    let Ok(key) = key.parse::<ObjectKey>() else { return Ok(miss("not a key of this cache")) };
    send(&app, &key, request.headers()).await
}

async fn send(app: &App, key: &ObjectKey, headers: &HeaderMap) -> Result<Response, ApiError> {
    let header =
        |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
    let stored_encoding = key.kind().content_encoding();
    let plain = stored_encoding.is_some() && !accepts_zstd(header(header::ACCEPT_ENCODING).as_deref());
    let wanted = ReadRequest {
        // A range of the stored bytes means nothing to a reader who gets them decoded.
        range: if plain { None } else { header(header::RANGE) },
        if_none_match: header(header::IF_NONE_MATCH),
        if_modified_since: header(header::IF_MODIFIED_SINCE),
    };
    match app.bucket.get(&key.to_string(), wanted).await? {
        ReadAnswer::NotFound => Ok(miss("not in this cache")),
        ReadAnswer::NotModified => Ok(StatusCode::NOT_MODIFIED.into_response()),
        ReadAnswer::RangeNotSatisfiable => Ok(StatusCode::RANGE_NOT_SATISFIABLE.into_response()),
        ReadAnswer::Found(object) => Ok(found(app, key.kind(), *object, plain)),
    }
}

fn found(app: &App, kind: ObjectKind, object: ObjectRead, plain: bool) -> Response {
    let mut headers = HeaderMap::new();
    let mut set = |name, value: Option<&str>| {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, Some(kind.content_type()));
    set(header::CACHE_CONTROL, Some(cache_control(kind)));
    set(header::LAST_MODIFIED, object.last_modified.as_deref());
    let partial = object.content_range.is_some();
    // What the stored object says of itself counts: some other writer may have stored it plain.
    let encoded = object.content_encoding.as_deref() == Some("zstd");
    if kind == ObjectKind::Nar || !plain || !encoded {
        set(header::ETAG, object.etag.as_deref());
        set(header::CONTENT_LENGTH, Some(&object.content_length.to_string()));
        set(header::CONTENT_RANGE, object.content_range.as_deref());
        set(header::ACCEPT_RANGES, (kind == ObjectKind::Nar).then_some("bytes"));
        set(header::CONTENT_ENCODING, encoded.then_some("zstd"));
    }
    if kind.content_encoding().is_some() {
        set(header::VARY, Some("accept-encoding"));
    }
    app.metrics.count_read(u64::try_from(object.content_length).unwrap_or(0));
    let stored = object.body.into_async_read();
    let body = if plain && encoded {
        Body::from_stream(ReaderStream::with_capacity(ZstdDecoder::new(stored), CHUNK))
    } else {
        Body::from_stream(ReaderStream::with_capacity(stored, CHUNK))
    };
    let status = if partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    (status, headers, body).into_response()
}

/// A NAR's key is its hash, so it never changes; what Nix asks by store path may be signed anew.
fn cache_control(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Nar => "public, max-age=31536000, immutable",
        ObjectKind::Narinfo | ObjectKind::Listing | ObjectKind::BuildLog | ObjectKind::Realisation => {
            "public, max-age=3600"
        }
    }
}

/// A miss may be a hit a second later, so nobody is to remember it.
fn miss(why: &'static str) -> Response {
    (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, "no-store")], why).into_response()
}

fn accepts_zstd(accepted: Option<&str>) -> bool {
    accepted.is_some_and(|list| {
        list.split(',').any(|item| {
            let mut parts = item.split(';').map(str::trim);
            let coding = parts.next().unwrap_or_default();
            let refused = parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
            (coding.eq_ignore_ascii_case("zstd") || coding == "*") && !refused
        })
    })
}
