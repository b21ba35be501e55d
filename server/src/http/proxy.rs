//! Reads, where the bucket is private: narinfos and NARs from the bucket, streamed in bounded memory, or NARs by
//! addresses of the bucket; to everybody, or to whoever proves to have the permission.

mod decoded;
mod narinfo;
mod taken;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::response::{IntoResponse as _, Response};
use niks3_protocol::api::Permission;
use niks3_protocol::object_key::{CACHE_INFO, ObjectKey, ObjectKind};
use niks3_protocol::server_config::ReadMode;
use percent_encoding::percent_decode_str;
use tokio::time::Instant;

pub use self::decoded::READERS as DECODING_READERS;
use self::decoded::decoded;
pub use self::narinfo::Narinfo;
use super::cache_info;
use crate::app::App;
use crate::auth::Identity;
use crate::bucket::{ObjectRead, ReadAnswer, ReadRequest};
use crate::error::ApiError;

/// Bytes decoded at a time for one reader.
const CHUNK: usize = 64 << 10;
/// What Nix asks by store path may be signed anew, or collected.
const SHORT: &str = "public, max-age=300";

/// Everything that is no other route.
pub async fn read(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (method, path) = (request.method(), request.uri().path());
    if path.starts_with("/api/") {
        return Err(ApiError::NotFound(format!("there is no call {path}")));
    }
    if ![Method::GET, Method::HEAD].contains(method) {
        return Err(ApiError::MethodNotAllowed(format!("{method} is not possible on {path}")));
    }
    let (mut parts, _) = request.into_parts();
    if app.config.private_reads {
        Identity::of_reader(&mut parts, &app).await?.may(Permission::Read)?;
    }
    let path = percent_decode_str(parts.uri.path()).decode_utf8_lossy().into_owned();
    let mut response = answer(&app, &parts, path.strip_prefix('/').unwrap_or(&path)).await?;
    if app.config.private_reads {
        make_private(response.headers_mut());
    }
    if parts.version == Version::HTTP_2 {
        return Ok(response.map(|body| taken::in_time(body, app.config.waits.taken, CHUNK as u64)));
    }
    Ok(response)
}

async fn answer(app: &App, parts: &Parts, key: &str) -> Result<Response, ApiError> {
    if key == CACHE_INFO {
        let headers = [(header::CONTENT_TYPE, "text/x-nix-cache-info"), (header::CACHE_CONTROL, SHORT)];
        return Ok((headers, cache_info(&app.config)).into_response());
    }
    if app.config.read_mode == ReadMode::Disabled {
        return Ok(miss("this server does not serve objects; read from the bucket"));
    }
    let Ok(key) = key.parse::<ObjectKey>() else { return Ok(miss("not a key of this cache")) };
    if app.config.read_mode == ReadMode::Redirect && key.kind() == ObjectKind::Nar {
        let presigner = app.bucket.presigner(app.config.redirect_ttl).await?;
        let address = presigner.read(parts.method.as_str(), &key.to_string());
        let headers = [(header::LOCATION, address), (header::CACHE_CONTROL, "no-store".to_owned())];
        return Ok((StatusCode::FOUND, headers).into_response());
    }
    send(app, &key, parts.method == Method::HEAD, &parts.headers).await
}

/// What one reader may read is not for caches on the way to keep for others.
fn make_private(headers: &mut HeaderMap) {
    if let Some(value) = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok())
        && let Ok(private) = HeaderValue::from_str(&value.replace("public", "private"))
    {
        headers.insert(header::CACHE_CONTROL, private);
    }
}

async fn send(app: &App, key: &ObjectKey, head: bool, headers: &HeaderMap) -> Result<Response, ApiError> {
    let kind = key.kind();
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let if_none_match = text(header::IF_NONE_MATCH).map(|tags| tags.replace("W/", ""));
    let wanted = ReadRequest {
        // Part of what is decoded on the way means nothing; and `If-Range` is answered with the whole.
        range: (kind == ObjectKind::Nar && !headers.contains_key(header::IF_RANGE))
            .then(|| text(header::RANGE).filter(|range| is_single_range(range)).map(str::to_owned))
            .flatten(),
        if_modified_since: text(header::IF_MODIFIED_SINCE)
            .filter(|_| if_none_match.is_none())
            .map(str::to_owned),
        if_none_match: if_none_match.clone(),
    };
    let (name, bucket) = (key.to_string(), &app.bucket);
    let plain = kind.content_encoding().is_some() && !accepts_zstd(text(header::ACCEPT_ENCODING));
    let unconditional = wanted.if_none_match.is_none() && wanted.if_modified_since.is_none();
    let may_be_kept = kind == ObjectKind::Narinfo && unconditional;
    if may_be_kept && let Some(narinfo) = app.recent.get(&name) {
        app.reads.note(&name);
        count_read(app, head, narinfo.stored_bytes());
        return Ok(narinfo.answer(plain));
    }
    let asked_at = Instant::now();
    let answer = if head { bucket.peek(&name, wanted).await? } else { bucket.get(&name, wanted).await? };
    if kind == ObjectKind::Narinfo && matches!(answer, ReadAnswer::Found(_) | ReadAnswer::NotModified) {
        app.reads.note(&name);
    }
    match answer {
        ReadAnswer::NotFound => Ok(miss("not in this cache")),
        ReadAnswer::NotModified => Ok(not_modified(kind, if_none_match.as_deref())),
        ReadAnswer::RangeNotSatisfiable => not_satisfiable(app, &name).await,
        ReadAnswer::Found(mut object) => {
            count_read(app, head, usize::try_from(object.content_length).unwrap_or(0));
            if may_be_kept
                && !head
                && let Some(narinfo) = Narinfo::read(&mut object).await?
            {
                let narinfo = Arc::new(narinfo);
                app.recent.keep(name, asked_at, Arc::clone(&narinfo));
                return Ok(narinfo.answer(plain));
            }
            found(app, key, *object, plain, head).await
        }
    }
}

fn count_read(app: &App, head: bool, bytes: usize) {
    if !head {
        app.metrics.count_read(bytes as u64);
    }
}

async fn found(
    app: &App,
    key: &ObjectKey,
    object: ObjectRead,
    plain: bool,
    head: bool,
) -> Result<Response, ApiError> {
    // What the stored object says of itself counts: some other writer may have stored it plain.
    let encoded = object.content_encoding.as_deref() == Some("zstd");
    let decode = plain && encoded;
    let partial = object.content_range.is_some();
    let mut headers = headers_of(key.kind(), &object);
    if !decode {
        set(&mut headers, header::CONTENT_LENGTH, Some(&object.content_length.to_string()));
        // What Nix itself compresses it does by other means too, such as brotli.
        set(&mut headers, header::CONTENT_ENCODING, object.content_encoding.as_deref());
    }
    let body = if !decode {
        Body::new(object.body.into_inner())
    } else if head {
        Body::empty()
    } else {
        decoded(app, &key.to_string(), object).await?
    };
    let status = if partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    Ok((status, headers, body).into_response())
}

/// What is said of an object, however it is sent.
fn headers_of(kind: ObjectKind, object: &ObjectRead) -> HeaderMap {
    let mut headers = common_headers(kind);
    let tag = object.etag.as_deref().map(|tag| entity_tag(kind, tag));
    set(&mut headers, header::CONTENT_TYPE, Some(kind.content_type()));
    set(&mut headers, header::LAST_MODIFIED, object.last_modified.as_deref());
    set(&mut headers, header::ETAG, tag.as_deref());
    set(&mut headers, header::CONTENT_RANGE, object.content_range.as_deref());
    headers
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(name, value);
    }
}

/// The headers that a 304 has too.
fn common_headers(kind: ObjectKind) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if kind == ObjectKind::Nar {
        // A NAR's key is its hash, so it never changes.
        let immutable = HeaderValue::from_static("public, max-age=31536000, immutable");
        headers.insert(header::CACHE_CONTROL, immutable);
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    } else {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(SHORT));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    headers
}

/// Of what is sent plain or encoded, the tag is weak: the same for other bytes of the same meaning.
fn entity_tag(kind: ObjectKind, stored: &str) -> String {
    if kind.content_encoding().is_some() { format!("W/{stored}") } else { stored.to_owned() }
}

fn not_modified(kind: ObjectKind, asked: Option<&str>) -> Response {
    let mut headers = common_headers(kind);
    let tag = asked.filter(|tag| tag.starts_with('"') && !tag.contains(','));
    if let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(&entity_tag(kind, tag)).ok()) {
        headers.insert(header::ETAG, tag);
    }
    (StatusCode::NOT_MODIFIED, headers).into_response()
}

/// 416 says how long the object is.
async fn not_satisfiable(app: &App, key: &str) -> Result<Response, ApiError> {
    let Some(object) = app.bucket.head(key).await? else { return Ok(miss("not in this cache")) };
    let range = format!("bytes */{}", object.size);
    Ok((StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, range)]).into_response())
}

/// A miss may be a hit a second later, so nobody is to remember it.
fn miss(why: &'static str) -> Response {
    (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, "no-store")], why).into_response()
}

/// `bytes=1-2`, `bytes=1-` or `bytes=-2`; anything else is answered with the whole object.
fn is_single_range(text: &str) -> bool {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return false;
    };
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok());
    match (number(first), number(last)) {
        (Some(Some(first)), Some(Some(last))) => first <= last,
        (Some(Some(_)), Some(None)) => last.is_empty(),
        (Some(None), Some(Some(last))) => first.is_empty() && last > 0,
        _ => false,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_ranges_are_passed_on() {
        for range in ["bytes=0-0", "bytes=5-", "bytes=-5"] {
            assert!(is_single_range(range), "{range}");
        }
        for range in
            ["", "bytes=", "bytes=-", "bytes=-0", "bytes=2-1", "bytes=0-1,3-4", "lines=1-2", "bytes=a-b"]
        {
            assert!(!is_single_range(range), "{range}");
        }
    }

    #[test]
    fn zstd_is_sent_to_who_asks_for_it() {
        for accepted in ["zstd", "gzip, zstd", "ZSTD;q=0.5", "*"] {
            assert!(accepts_zstd(Some(accepted)), "{accepted}");
        }
        for accepted in ["", "gzip", "zstd;q=0", "gzip, zstd; q=0.0"] {
            assert!(!accepts_zstd(Some(accepted)), "{accepted}");
        }
        assert!(!accepts_zstd(None));
    }
}
