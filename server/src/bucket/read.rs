//! Reading for the proxy: one object, as a stream, with the conditions of the reader's request.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use axum::body::Bytes;
use tokio::io::AsyncReadExt as _;

use super::direct::{ObjectRequest, Verb};
use super::steady::steady;
use super::{Bucket, BucketError, Failure, ObjectHead};

/// The reader's conditions, as their headers said them.
#[derive(Debug, Clone, Default)]
pub struct ReadRequest {
    /// `Range`
    pub range: Option<String>,
    /// `If-None-Match`
    pub if_none_match: Option<String>,
    /// `If-Modified-Since`
    pub if_modified_since: Option<String>,
}

/// What a read found.
#[derive(Debug)]
pub enum ReadAnswer {
    /// The object, or a range of it.
    Found(Box<ObjectRead>),
    /// The reader has it already (304).
    NotModified,
    /// The range is outside the object (416).
    RangeNotSatisfiable,
    /// No such object.
    NotFound,
}

/// An object on its way, headers as S3 gave them.
#[derive(Debug)]
pub struct ObjectRead {
    /// Bytes of `body`.
    pub content_length: i64,
    /// Set where `body` is a part (206).
    pub content_range: Option<String>,
    /// As it was stored.
    pub content_encoding: Option<String>,
    /// Quoted.
    pub etag: Option<String>,
    /// An HTTP date.
    pub last_modified: Option<String>,
    /// The bytes, read from S3 as they are taken.
    pub body: ByteStream,
}

impl ObjectRead {
    /// Its first bytes, for objects that are to be short.
    pub async fn read_up_to(self, limit: usize) -> Result<Vec<u8>, BucketError> {
        let mut bytes = Vec::new();
        let mut start = self.body.into_async_read().take(limit as u64);
        start.read_to_end(&mut bytes).await.map_err(|_| BucketError::cut_off(""))?;
        Ok(bytes)
    }

    /// All its bytes, for objects that are short; they can be read again.
    pub async fn read_ahead(&mut self) -> Result<Bytes, BucketError> {
        let body = std::mem::take(&mut self.body).collect().await.map_err(|_| BucketError::cut_off(""))?;
        let bytes = body.into_bytes();
        self.body = bytes.clone().into();
        Ok(bytes)
    }
}

impl Bucket {
    /// Opens an object. The limit on one request covers the time to its first byte; the body is read as
    /// fast as the reader takes it.
    pub async fn get(&self, key: &str, wanted: ReadRequest) -> Result<ReadAnswer, BucketError> {
        self.read(Verb::Get, key, wanted).await
    }

    /// What [`Self::get`] would find, its bytes left out.
    pub async fn peek(&self, key: &str, wanted: ReadRequest) -> Result<ReadAnswer, BucketError> {
        self.read(Verb::Head, key, wanted).await
    }

    async fn read(&self, verb: Verb, key: &str, wanted: ReadRequest) -> Result<ReadAnswer, BucketError> {
        let since = wanted.if_modified_since.as_deref().and_then(http_date);
        let conditions = [
            ("range", wanted.range),
            ("if-none-match", wanted.if_none_match),
            ("if-modified-since", since.and_then(|date| date.fmt(DateTimeFormat::HttpDate).ok())),
        ];
        let asked = ObjectRequest { conditions: &conditions, ..ObjectRequest::new(verb, key) };
        let answer = match self.observe(verb.operation(), key, self.direct.send(&asked)).await {
            Ok(answer) => answer,
            Err(error) => return answer_to(error),
        };
        let said = |name| answer.headers().get(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let modified = said("last-modified");
        if is_unmodified(modified.as_deref().and_then(http_date), since) {
            return Ok(ReadAnswer::NotModified);
        }
        Ok(ReadAnswer::Found(Box::new(ObjectRead {
            content_length: content_length(&answer),
            content_range: said("content-range"),
            content_encoding: said("content-encoding").and_then(|text| stored_encoding(&text)),
            etag: said("etag"),
            last_modified: modified,
            body: steady(answer.into_body()),
        })))
    }

    /// Looks for an object; `None` where it is not there.
    pub async fn head(&self, key: &str) -> Result<Option<ObjectHead>, BucketError> {
        let asked = ObjectRequest::new(Verb::Head, key);
        match self.observe(Verb::Head.operation(), key, self.direct.send(&asked)).await {
            Ok(head) => Ok(Some(ObjectHead {
                size: content_length(&head),
                etag: head.headers().get("etag").unwrap_or_default().to_owned(),
            })),
            Err(error) if error.failure == Failure::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn content_length(answer: &HttpResponse) -> i64 {
    answer.headers().get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Some servers compare the fraction of the second too, which no HTTP date has: they call every object modified.
fn is_unmodified(modified: Option<DateTime>, since: Option<DateTime>) -> bool {
    matches!((modified, since), (Some(modified), Some(since)) if modified.secs() <= since.secs())
}

fn http_date(text: &str) -> Option<DateTime> {
    DateTime::from_str(text, DateTimeFormat::HttpDate).ok()
}

/// The failures of a read that are answers.
fn answer_to(error: BucketError) -> Result<ReadAnswer, BucketError> {
    match error.failure {
        Failure::NotFound => Ok(ReadAnswer::NotFound),
        Failure::NotModified => Ok(ReadAnswer::NotModified),
        Failure::RangeNotSatisfiable => Ok(ReadAnswer::RangeNotSatisfiable),
        _ => Err(error),
    }
}

/// What an object is encoded by: of some writers S3 keeps the way of sending too.
fn stored_encoding(text: &str) -> Option<String> {
    let codings = text.split(',').map(str::trim).filter(|coding| !coding.eq_ignore_ascii_case("aws-chunked"));
    Some(codings.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_the_objects_and_not_that_of_its_sending() {
        for (said, stored) in [
            ("br", Some("br")),
            ("aws-chunked", None),
            ("zstd,aws-chunked", Some("zstd")),
            ("gzip, br", Some("gzip, br")),
        ] {
            assert_eq!(stored_encoding(said).as_deref(), stored, "{said}");
        }
    }
}
