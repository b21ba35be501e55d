//! What went wrong at S3, in the words of the conditions a `BinaryCache` reports.

use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::credentials::NoCredentials;

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
            Self::Throttled(_) => "throttled",
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
            | Failure::Unreachable
            | Failure::NotModified
            | Failure::RangeNotSatisfiable
            | Failure::Refused => "EndpointUnreachable",
        }
    }

    /// Whether S3 answered that it will not do it: then it did not, and never will. Credentials may end between a request
    /// whose answer was lost and its second try.
    pub fn is_definite(&self) -> bool {
        !matches!(self.failure, Failure::Unreachable | Failure::Throttled(_) | Failure::NoCredentials)
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
                let code = service.err().code().unwrap_or_default();
                let said = service.err().message().unwrap_or_default();
                let after = service.raw().headers().get("retry-after").and_then(|text| text.parse().ok());
                let failure = match classify(operation, status, code) {
                    Failure::Throttled(pause) => {
                        Failure::Throttled(after.map_or(pause, Duration::from_secs).clamp(PAUSE, MAX_PAUSE))
                    }
                    other => other,
                };
                (failure, format!("{status} {code} {said}").trim_end().to_owned())
            }
            SdkError::TimeoutError(_) => (Failure::Unreachable, "no answer in time".to_owned()),
            SdkError::ConstructionFailure(_) => {
                (Failure::Refused, "the request could not be built".to_owned())
            }
            SdkError::DispatchFailure(_) => (Failure::Unreachable, "no connection".to_owned()),
            _ => (Failure::Unreachable, "the answer was cut off".to_owned()),
        };
        Self { operation, key: key.to_owned(), failure, message }
    }
}

fn classify(operation: &str, status: u16, code: &str) -> Failure {
    match (status, code) {
        (_, "NoSuchBucket") => Failure::BucketNotFound,
        (_, "NoSuchUpload") => Failure::UploadNotFound,
        (_, "SignatureDoesNotMatch" | "InvalidAccessKeyId" | "AuthorizationHeaderMalformed") => {
            Failure::SignatureRejected
        }
        (_, "ExpiredToken" | "ExpiredTokenException" | "InvalidToken" | "InvalidTokenId") => {
            Failure::NoCredentials
        }
        (_, "RequestTimeTooSkewed") => Failure::ClockSkew,
        // The answer to a HEAD has no body, and so no code.
        (429, _) | (503, "SlowDown" | "TooManyRequests" | "") => Failure::Throttled(PAUSE),
        (304, _) => Failure::NotModified,
        (416, _) => Failure::RangeNotSatisfiable,
        (501, _) | (_, "NotImplemented") => Failure::Unsupported,
        (404, _) if operation == "list" => Failure::BucketNotFound,
        (404, _) => Failure::NotFound,
        (401 | 403, _) => Failure::AccessDenied,
        (500.. | 408, _) => Failure::Unreachable,
        _ => Failure::Refused,
    }
}
