//! Requests for one object, which are nearly all that a busy server sends: by our own code, as the SDK takes a tenth of a
//! millisecond of the cores to make one. Connections, pace and credentials are those that the SDK has, and so are limits and
//! what is asked again.

use std::time::Duration;

use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;
use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpConnector};
use axum::body::Bytes;
use time::OffsetDateTime;
use tokio::io::AsyncReadExt as _;
use tokio::time::{sleep, timeout};

use super::credentials::Keeper;
use super::error::{no_connection, retry_after};
use super::sigv4::{Place, Signing, sha256};
use super::{BucketConfig, BucketError, Failure};

/// Requests for an object, as long as none is answered.
const ATTEMPTS: u32 = 3;
/// Before the second at most, before the third twice that.
const PAUSE: Duration = Duration::from_secs(1);
/// What is read of an answer that is a refusal.
const MAX_REFUSAL: u64 = 64 << 10;

/// Sends requests for one object.
#[derive(Debug, Clone)]
pub(super) struct Direct {
    connector: SharedHttpConnector,
    credentials: Keeper,
    place: Place,
    region: String,
    limit: Duration,
}

/// What is done with it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verb {
    Get,
    Head,
    Put,
}

impl Verb {
    /// As metrics and errors name it.
    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Put => "put",
        }
    }

    /// The method, and the query that the SDK would send, for who reads S3's own log.
    fn line(self) -> (&'static str, &'static str) {
        match self {
            Self::Get => ("GET", "x-id=GetObject"),
            Self::Head => ("HEAD", ""),
            Self::Put => ("PUT", "x-id=PutObject"),
        }
    }
}

/// A request for one object.
pub(super) struct ObjectRequest<'a> {
    pub(super) verb: Verb,
    pub(super) key: &'a str,
    /// What is said of the bytes, by name.
    pub(super) stored: &'a [(&'static str, &'a str)],
    /// What the request depends on.
    pub(super) conditions: &'a [(&'static str, Option<String>)],
    pub(super) bytes: Bytes,
}

impl<'a> ObjectRequest<'a> {
    /// With neither conditions nor bytes.
    pub(super) fn new(verb: Verb, key: &'a str) -> Self {
        Self { verb, key, stored: &[], conditions: &[], bytes: Bytes::new() }
    }

    fn error(&self, failure: Failure, message: impl Into<String>) -> BucketError {
        let (operation, key) = (self.verb.operation(), self.key.to_owned());
        BucketError { operation, key, failure, message: message.into() }
    }
}

impl Direct {
    pub(super) fn new(
        config: &BucketConfig,
        connector: SharedHttpConnector,
        credentials: Keeper,
    ) -> Result<Self, BucketError> {
        let place = Place::new(config, config.endpoint.as_ref())?;
        let (region, limit) = (config.region.clone(), config.request_timeout);
        Ok(Self { connector, credentials, place, region, limit })
    }

    /// Sends it again while S3 does not answer, or has too much to do.
    pub(super) async fn send(&self, asked: &ObjectRequest<'_>) -> Result<HttpResponse, BucketError> {
        let mut attempt = 1;
        loop {
            match self.send_once(asked).await {
                Err(error) if attempt < ATTEMPTS && error.may_pass() => {}
                answer => return answer,
            }
            let mut random = [0; 2];
            // Without it all wait as long; that is no reason to fail.
            let _ = getrandom::fill(&mut random);
            let part = f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX);
            sleep((PAUSE * attempt).mul_f64(part)).await;
            attempt += 1;
        }
    }

    /// Sends it exactly once. What does not succeed is an error; the limit on one request counts until an answer's
    /// headers, or until the end of a refusal.
    pub(super) async fn send_once(&self, asked: &ObjectRequest<'_>) -> Result<HttpResponse, BucketError> {
        let connection = CaptureSmithyConnection::new();
        let answer = timeout(self.limit, self.ask(asked, &connection)).await;
        let answer = answer.unwrap_or_else(|_| Err(asked.error(Failure::Unreachable, "no answer in time")));
        if let Err(BucketError { failure: Failure::Unreachable, .. }) = &answer
            && let Some(connection) = connection.get()
        {
            // Another may lead to a server that works.
            connection.poison();
        }
        answer
    }

    async fn ask(
        &self,
        asked: &ObjectRequest<'_>,
        connection: &CaptureSmithyConnection,
    ) -> Result<HttpResponse, BucketError> {
        let credentials = self.credentials.get().await;
        let credentials = credentials.map_err(|why| asked.error(Failure::NoCredentials, why.to_string()))?;
        let mut request = self.build(asked, &credentials)?;
        request.add_extension(connection.clone());
        let answer = self.connector.call(request).await;
        let answer =
            answer.map_err(|error| asked.error(Failure::Unreachable, no_connection(Some(&error))))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let after = retry_after(&answer);
        let mut said = Vec::new();
        let mut body = ByteStream::new(answer.into_body()).into_async_read().take(MAX_REFUSAL);
        // The status alone says enough where the rest is cut off.
        let _ = body.read_to_end(&mut said).await;
        Err(BucketError::refused(asked.verb.operation(), asked.key, status, after, &said))
    }

    fn build(
        &self,
        asked: &ObjectRequest<'_>,
        credentials: &Credentials,
    ) -> Result<HttpRequest, BucketError> {
        let signing = Signing::new(&self.region, credentials, OffsetDateTime::now_utc())?;
        let (path, hash) = (self.place.path(asked.key), sha256(&asked.bytes));
        let (method, query) = asked.verb.line();
        let mut headers =
            vec![("x-amz-content-sha256", hash.as_str()), ("x-amz-date", signing.instant.as_str())];
        headers.extend(credentials.session_token().map(|token| ("x-amz-security-token", token)));
        headers.extend(asked.stored);
        let authorization =
            authorization(&signing, (method, &path, query), &self.place.host, &hash, &headers);
        headers.push(("authorization", &authorization));
        headers.push(("user-agent", concat!("niks3-server/", env!("CARGO_PKG_VERSION"))));

        let mut request = HttpRequest::new(SdkBody::from(asked.bytes.clone()));
        let unbuildable = || asked.error(Failure::Refused, "the request could not be built");
        request.set_method(method).map_err(|_| unbuildable())?;
        request
            .set_uri(format!("{}{path}{}{query}", self.place.origin, if query.is_empty() { "" } else { "?" }))
            .map_err(|_| unbuildable())?;
        // Not signed: they come from a reader as they are, and change nothing.
        let conditions = asked.conditions.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        for (name, value) in headers.into_iter().chain(conditions) {
            request.headers_mut().try_insert(name, value.to_owned()).map_err(|_| unbuildable())?;
        }
        Ok(request)
    }
}

/// The header that signs a request with these headers and that of its host.
///
/// Source: AWS, "Signature Calculations for the Authorization Header (AWS Signature Version 4)".
fn authorization(
    signing: &Signing,
    (method, path, query): (&str, &str, &str),
    host: &str,
    hash: &str,
    headers: &[(&str, &str)],
) -> String {
    let mut headers: Vec<(&str, &str)> = headers.iter().copied().chain([("host", host)]).collect();
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String =
        headers.iter().map(|(name, value)| [name, ":", value.trim(), "\n"].concat()).collect();
    let signature = signing.signature(&format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{hash}"));
    format!(
        "AWS4-HMAC-SHA256 Credential={}, SignedHeaders={names}, Signature={signature}",
        signing.credential
    )
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    /// AWS's own worked example of a GET signed in its header.
    #[test]
    fn signs_as_the_aws_example_does() {
        let (id, secret) = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        let credentials = Credentials::new(id, secret, None, None, "test");
        let signing = Signing::new("us-east-1", &credentials, datetime!(2013-05-24 00:00:00 UTC)).unwrap();
        let hash = sha256(b"");
        let headers =
            [("range", "bytes=0-9"), ("x-amz-content-sha256", &hash), ("x-amz-date", &signing.instant)];
        assert_eq!(
            authorization(
                &signing,
                ("GET", "/test.txt", ""),
                "examplebucket.s3.amazonaws.com",
                &hash,
                &headers
            ),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }
}
