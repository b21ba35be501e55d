//! A narinfo that is short enough to be kept in memory, ready to be sent.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use niks3_protocol::object_key::ObjectKind;

use super::{headers_of, set};
use crate::bucket::{BucketError, ObjectRead};
use crate::recent::LARGEST;

/// A narinfo as text, and as it is stored.
#[derive(Debug)]
pub struct Narinfo {
    /// What is said of either.
    headers: HeaderMap,
    text: Bytes,
    /// Compressed by zstd; none where the bucket has it plain.
    stored: Option<Bytes>,
}

impl Narinfo {
    /// Reads one; none where it is too long to be kept, or stored in a way that this server cannot undo.
    pub(super) async fn read(object: &mut ObjectRead) -> Result<Option<Self>, BucketError> {
        let length = usize::try_from(object.content_length).unwrap_or(usize::MAX);
        if !(1..LARGEST).contains(&length) {
            return Ok(None);
        }
        let bytes = object.read_ahead().await?;
        let (text, stored) = match object.content_encoding.as_deref() {
            None => (bytes, None),
            Some("zstd") => match zstd::bulk::decompress(&bytes, LARGEST - length) {
                Ok(text) => (text.into(), Some(bytes)),
                Err(_) => return Ok(None),
            },
            Some(_) => return Ok(None),
        };
        Ok(Some(Self { headers: headers_of(ObjectKind::Narinfo, object), text, stored }))
    }

    /// The answer to a reader, as text or as it is stored.
    pub(super) fn answer(&self, plain: bool) -> Response {
        let mut headers = self.headers.clone();
        let stored = self.stored.as_ref().filter(|_| !plain);
        set(&mut headers, header::CONTENT_ENCODING, stored.map(|_| "zstd"));
        let bytes = stored.unwrap_or(&self.text).clone();
        (headers, Body::from(bytes)).into_response()
    }

    /// Bytes that are stored of it.
    pub(super) fn stored_bytes(&self) -> usize {
        self.stored.as_ref().unwrap_or(&self.text).len()
    }
}
