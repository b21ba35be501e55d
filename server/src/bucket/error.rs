//! What went wrong at S3, in the words of the conditions a `BinaryCache` reports.

use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_xml::decode::{Document, try_data};

use super::credentials::NoCredentials;
use super::pace;
use crate::telemetry;

/// A request that failed. The message names the operation and the key, never a credential.
#[derive(Debug, Clone, thiserror::Error)]
#[error("S3 {operation} {key}: {message}")]
pub struct BucketError {
    /// What was tried.
    pub operation: &'static str,
    /// On what.
    pub key: String,
    /// How it failed.
    pub failure: Failure,
    /// What S3 said.
    pub message: String,
}

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The object is not there.
    NotFound,
    /// The bucket is not there.
    BucketNotFound,
    /// The multipart upload is not there.
    UploadNotFound,
    /// These credentials may not do this.
    AccessDenied,
    /// There are no credentials to sign with, or S3 says that they are over.
    NoCredentials,
    /// The signature was refused: wrong secret, region or addressing style.
    SignatureRejected,
    /// The clocks differ too much.
    ClockSkew,
    /// Too many requests.
    Throttled(Duration),
    /// The same, and it waits here: S3 has not seen this one, and never will.
    NotSent(Duration),
    /// No answer, or a failure inside S3: the request may still act.
    Unreachable,
    /// The stored object fits the conditions of the request (304).
    NotModified,
    /// The range is outside the object (416).
    RangeNotSatisfiable,
    /// This S3 server does not do what a cache needs.
    Unsupported,
    /// Another refusal.
    Refused,
}

/// What a client is told to wait where S3 does not say, and at most.
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_mins(10);

impl Failure {
    /// As metrics name it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::NotFound | Self::UploadNotFound => "absent",
            Self::NotModified => "not_modified",
            Self::Throttled(_) | Self::NotSent(_) => "throttled",
            Self::Unreachable => "failed",
            Self::BucketNotFound
            | Self::AccessDenied
            | Self::NoCredentials
            | Self::SignatureRejected
            | Self::ClockSkew
            | Self::RangeNotSatisfiable
            | Self::Unsupported
            | Self::Refused => "refused",
        }
    }
}

impl BucketError {
    /// The reason of the condition `StorageReady`.
    pub fn reason(&self) -> &'static str {
        match self.failure {
            Failure::BucketNotFound => "BucketNotFound",
            Failure::AccessDenied => "AccessDenied",
            Failure::NoCredentials => "CredentialsUnavailable",
            Failure::SignatureRejected => "SignatureRejected",
            Failure::ClockSkew => "ClockSkew",
            Failure::Unsupported => "FeatureMissing",
            Failure::NotFound
            | Failure::UploadNotFound
            | Failure::Throttled(_)
            | Failure::NotSent(_)
            | Failure::Unreachable
            | Failure::NotModified
            | Failure::RangeNotSatisfiable
            | Failure::Refused => "EndpointUnreachable",
        }
    }

    /// Whether S3 answered that it will not do it: then it did not, and never will. Credentials may end between a request
    /// whose answer was lost and its second try.
    pub fn is_definite(&self) -> bool {
        !matches!(
            self.failure,
            Failure::Unreachable | Failure::Throttled(_) | Failure::NotSent(_) | Failure::NoCredentials
        )
    }

    /// An answer that ended before it was whole, which says nothing of the object.
    pub(crate) fn cut_off(key: &str) -> Self {
        Self {
            operation: "get",
            key: key.to_owned(),
            failure: Failure::Unreachable,
            message: "the answer was cut off".to_owned(),
        }
    }

    pub(super) fn from_sdk<E: ProvideErrorMetadata + std::error::Error + 'static>(
        operation: &'static str,
        key: &str,
        error: &SdkError<E, HttpResponse>,
    ) -> Self {
        if let Some(why) = NoCredentials::cause_of(error) {
            return Self {
                operation,
                key: key.to_owned(),
                failure: Failure::NoCredentials,
                message: why.to_string(),
            };
        }
        let (failure, message) = match error {
            SdkError::ServiceError(service) => {
                let status = service.raw().status().as_u16();
                let after = retry_after(service.raw());
                let said = Said {
                    code: service.err().code().unwrap_or_default().to_owned(),
                    message: service.err().message().unwrap_or_default().to_owned(),
                };
                match said.of(operation, status, after) {
                    (Failure::Throttled(pause), message) if pace::was_held_back(service.raw()) => {
                        (Failure::NotSent(pause), message)
                    }
                    other => other,
                }
            }
            SdkError::TimeoutError(_) => (Failure::Unreachable, "no answer in time".to_owned()),
            SdkError::ConstructionFailure(_) => {
                (Failure::Refused, "the request could not be built".to_owned())
            }
            SdkError::DispatchFailure(failure) => {
                (Failure::Unreachable, no_connection(failure.as_connector_error()))
            }
            _ => (Failure::Unreachable, "the answer was cut off".to_owned()),
        };
        Self { operation, key: key.to_owned(), failure, message }
    }

    /// An answer that is no success, with what was read of its body, and the seconds S3 wants to be left alone.
    pub(super) fn refused(
        operation: &'static str,
        key: &str,
        status: u16,
        after: Option<u64>,
        body: &[u8],
    ) -> Self {
        let (failure, message) = Said::read(body).of(operation, status, after);
        Self { operation, key: key.to_owned(), failure, message }
    }

    /// Whether the same request may succeed a moment later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self.failure, Failure::Unreachable | Failure::Throttled(_) | Failure::NotSent(_))
    }
}

/// The cause of all is what helps: a name that is not known, a port that nobody listens at, a certificate's CA.
pub(super) fn no_connection(error: Option<&ConnectorError>) -> String {
    let cause = error.and_then(|error| telemetry::causes(error).last());
    cause.map_or_else(|| "no connection".to_owned(), |cause| format!("no connection: {cause}"))
}

/// What S3 says of a refusal.
#[derive(Debug, Default)]
struct Said {
    code: String,
    message: String,
}

impl Said {
    /// Nothing where the body is not S3's, as that of a proxy on the way, or of an answer to a HEAD.
    fn read(body: &[u8]) -> Self {
        let mut said = Self::default();
        let Ok(text) = std::str::from_utf8(body) else { return said };
        let mut document = Document::new(text);
        let Ok(mut root) = document.root_element() else { return said };
        if !root.start_el().matches("Error") {
            return said;
        }
        while let Some(mut tag) = root.next_tag() {
            let field = match tag.start_el().local() {
                "Code" => &mut said.code,
                "Message" => &mut said.message,
                _ => continue,
            };
            if let Ok(text) = try_data(&mut tag) {
                *field = text.into_owned();
            }
        }
        said
    }

    /// How the request failed, and what is told of that.
    fn of(&self, operation: &str, status: u16, after: Option<u64>) -> (Failure, String) {
        let Self { code, message } = self;
        let failure = match classify(operation, status, code) {
            Failure::Throttled(pause) => {
                Failure::Throttled(after.map_or(pause, Duration::from_secs).clamp(PAUSE, MAX_PAUSE))
            }
            other => other,
        };
        (failure, format!("{status} {code} {message}").trim_end().to_owned())
    }
}

/// The seconds that S3 wants to be left alone.
pub(super) fn retry_after(answer: &HttpResponse) -> Option<u64> {
    answer.headers().get("retry-after").and_then(|text| text.parse().ok())
}

fn classify(operation: &str, status: u16, code: &str) -> Failure {
    match (status, code) {
        (_, "NoSuchBucket") => Failure::BucketNotFound,
        (_, "NoSuchUpload") => Failure::UploadNotFound,
        // The last is what versitygw says of a key that it does not know, with the status 404.
        (
            _,
            "SignatureDoesNotMatch"
            | "InvalidAccessKeyId"
            | "AuthorizationHeaderMalformed"
            | "XAdminUserNotFound",
        ) => Failure::SignatureRejected,
        (_, "ExpiredToken" | "ExpiredTokenException" | "InvalidToken" | "InvalidTokenId") => {
            Failure::NoCredentials
        }
        (_, "RequestTimeTooSkewed") => Failure::ClockSkew,
        // The answer to a HEAD has no body, and so no code.
        (429, _) | (503, "SlowDown" | "TooManyRequests" | "") => Failure::Throttled(PAUSE),
        (304, _) => Failure::NotModified,
        (416, _) => Failure::RangeNotSatisfiable,
        (501, _) | (_, "NotImplemented") => Failure::Unsupported,
        // Told to encrypt, S3 has no such key, or no service of keys.
        (_, code) if code.starts_with("KMS") || code.starts_with("kms:") => Failure::Unsupported,
        (404, _) if operation == "list" => Failure::BucketNotFound,
        (404, _) => Failure::NotFound,
        (401 | 403, _) => Failure::AccessDenied,
        (500.. | 408, _) => Failure::Unreachable,
        _ => Failure::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> (Failure, String) {
        let error = BucketError::refused("get", "a", status, None, body.as_bytes());
        (error.failure, error.message)
    }

    #[test]
    fn what_s3_says_is_told_and_what_is_not_its_own_is_judged_by_its_status() {
        let xml = "<?xml version=\"1.0\"?>\n<Error><RequestId>1</RequestId><Code>NoSuchBucket</Code>\
                   <Message>not &lt;there&gt;</Message></Error>";
        assert_eq!(refused(404, xml), (Failure::BucketNotFound, "404 NoSuchBucket not <there>".to_owned()));
        for body in ["", "<html><Code>NoSuchBucket</Code></html>", "<Error><Code>NoSuchBuck", "gateway", "<"]
        {
            assert_eq!(refused(403, body).0, Failure::AccessDenied, "{body}");
        }
        assert_eq!(refused(404, "").1, "404");
        let slow = BucketError::refused("get", "a", 503, Some(7), b"");
        assert_eq!(slow.failure, Failure::Throttled(Duration::from_secs(7)));
    }
}
