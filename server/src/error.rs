//! Failures as answers: the only file that chooses a status for one.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use niks3_protocol::api::ErrorBody;
use niks3_protocol::api::fsck::FsckConflict;
use niks3_protocol::api::gc::GcConflict;

use crate::auth::AuthError;
use crate::bucket::{BucketError, Failure};
use crate::fsck::FsckError;
use crate::gc::GcError;
use crate::layers::request_id;
use crate::push::PushError;
use crate::resign::ResignError;

/// What a client can act on.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: the request is wrong.
    #[error("{0}")]
    BadRequest(String),
    /// 401: no valid identity.
    #[error("{0}")]
    Unauthorized(String),
    /// 403: this identity may not.
    #[error("{0}")]
    Forbidden(String),
    /// 404
    #[error("{0}")]
    NotFound(String),
    /// 405
    #[error("{0}")]
    MethodNotAllowed(String),
    /// 409: the request is right, its time is not.
    #[error("{0}")]
    Conflict(String),
    /// 409 with the active collection.
    #[error("{}", .0.error)]
    GcConflict(Box<GcConflict>),
    /// 409 with the active comparison.
    #[error("{}", .0.error)]
    FsckConflict(Box<FsckConflict>),
    /// 413
    #[error("{0}")]
    TooLarge(String),
    /// 413 because of some of a call's objects.
    #[error("{message}")]
    ObjectsTooLarge {
        /// Which is the first.
        message: String,
        /// By key, what is wrong with each.
        objects: BTreeMap<String, String>,
    },
    /// 415: the body is encoded.
    #[error("{0}")]
    Unsupported(String),
    /// 429
    #[error("{message}")]
    Throttled {
        /// When to try again.
        after: Duration,
        /// Why.
        message: String,
    },
    /// 502: what the bucket has is nothing that can be sent.
    #[error("{0}")]
    BadGateway(String),
    /// 503: something the server needs is away.
    #[error("{message}")]
    Unavailable {
        /// When to try again.
        after: Duration,
        /// Why.
        message: String,
    },
    /// 500: logged here, told to nobody.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) | Self::GcConflict(_) | Self::FsckConflict(_) => StatusCode::CONFLICT,
            Self::TooLarge(_) | Self::ObjectsTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Throttled { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::BadGateway(_) => StatusCode::BAD_GATEWAY,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(mut self) -> Response {
        let status = self.status();
        if let Self::Internal(error) = &self {
            tracing::error!(error = error.as_ref() as &dyn std::error::Error, "request failed");
        }
        if let Self::GcConflict(conflict) = self {
            return (status, Json(conflict)).into_response();
        }
        if let Self::FsckConflict(conflict) = self {
            return (status, Json(conflict)).into_response();
        }
        let error = self.to_string();
        let objects = match &mut self {
            Self::ObjectsTooLarge { objects, .. } => std::mem::take(objects),
            _ => BTreeMap::new(),
        };
        let body = ErrorBody { error, request_id: request_id(), objects };
        let mut response = (status, Json(body)).into_response();
        match self {
            Self::Throttled { after, .. } | Self::Unavailable { after, .. } => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
            }
            Self::Unauthorized(_) => {
                for challenge in ["Bearer realm=\"niks3\"", "Basic realm=\"niks3\""] {
                    let challenge = HeaderValue::from_static(challenge);
                    response.headers_mut().append(header::WWW_AUTHENTICATE, challenge);
                }
            }
            _ => {}
        }
        response
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Missing | AuthError::Invalid(_) | AuthError::NoSubject => {
                Self::Unauthorized(error.to_string())
            }
            AuthError::Forbidden(_) => Self::Forbidden(error.to_string()),
            AuthError::Unavailable(_) => {
                Self::Unavailable { after: Duration::from_secs(5), message: error.to_string() }
            }
        }
    }
}

impl From<BucketError> for ApiError {
    fn from(error: BucketError) -> Self {
        let message = error.to_string();
        match error.failure {
            Failure::Throttled(after) | Failure::NotSent(after) => Self::Throttled { after, message },
            Failure::NotFound | Failure::UploadNotFound => Self::NotFound(message),
            Failure::Unreachable
            | Failure::BucketNotFound
            | Failure::AccessDenied
            | Failure::NoCredentials
            | Failure::SignatureRejected
            | Failure::ClockSkew => {
                tracing::warn!(message, "the bucket failed a request");
                let message = format!("the cache's storage is not available ({})", error.reason());
                Self::Unavailable { after: Duration::from_secs(5), message }
            }
            Failure::NotModified | Failure::RangeNotSatisfiable | Failure::Unsupported | Failure::Refused => {
                Self::Internal(Box::new(error))
            }
        }
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) | sqlx::Error::PoolClosed => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the database is away");
                Self::Unavailable {
                    after: Duration::from_secs(5),
                    message: "the cache's database is not available".to_owned(),
                }
            }
            // 57P: the database is shutting down or starting; 53300: it has no connection left.
            sqlx::Error::Database(ref cause)
                if cause.code().is_some_and(|code| code.starts_with("57P") || code == "53300") =>
            {
                Self::Unavailable {
                    after: Duration::from_secs(5),
                    message: "the cache's database is not available".to_owned(),
                }
            }
            // 22021 and 22P05: a text with a NUL, which PostgreSQL does not store.
            sqlx::Error::Database(ref cause)
                if cause.code().is_some_and(|code| code == "22021" || code == "22P05") =>
            {
                Self::BadRequest("a text of the request holds the character NUL".to_owned())
            }
            error => Self::Internal(Box::new(error)),
        }
    }
}

impl From<PushError> for ApiError {
    fn from(error: PushError) -> Self {
        let message = error.to_string();
        match error {
            PushError::Invalid(_) => Self::BadRequest(message),
            PushError::Foreign(_) | PushError::NotOwner(_) => Self::Forbidden(message),
            PushError::UploadNotFound(_) | PushError::MultipartNotFound(_) => Self::NotFound(message),
            PushError::NotUploaded(_)
            | PushError::Replaced(_)
            | PushError::NotSigned(_)
            | PushError::Sealed(_)
            | PushError::DanglingReference(_)
            | PushError::Incomplete
            | PushError::Changed(_)
            | PushError::Lost(_) => Self::Conflict(message),
            PushError::BeingDeleted(_) | PushError::BeingWritten(_) | PushError::Late(_) => {
                Self::Unavailable { after: Duration::from_secs(5), message }
            }
            PushError::TooLarge { message, objects } => Self::ObjectsTooLarge { message, objects },
            PushError::TooMany(_) => Self::Throttled { after: Duration::from_secs(30), message },
            PushError::Database(error) => error.into(),
            PushError::Bucket(error) => error.into(),
            PushError::Panicked(error) => Self::Internal(Box::new(error)),
        }
    }
}

impl From<GcError> for ApiError {
    fn from(error: GcError) -> Self {
        match error {
            GcError::Conflict(conflict) => Self::GcConflict(conflict),
            GcError::Invalid(message) => Self::BadRequest(message),
            GcError::Database(error) => error.into(),
            GcError::Bucket(error) => error.into(),
            GcError::Uploads(error) => error.into(),
            GcError::Stopped | GcError::Lost | GcError::Aborted => {
                Self::Unavailable { after: Duration::from_secs(5), message: error.to_string() }
            }
            GcError::NotThere(_) => Self::NotFound(error.to_string()),
            GcError::SafetyLimit(_) | GcError::Held(_) | GcError::Left(_) => {
                Self::Conflict(error.to_string())
            }
            GcError::Row(_) | GcError::Graph(_) => Self::Internal(Box::new(error)),
        }
    }
}

impl From<ResignError> for ApiError {
    fn from(error: ResignError) -> Self {
        match error {
            ResignError::NoKey | ResignError::Conflict(_) => Self::Conflict(error.to_string()),
            ResignError::Database(error) => error.into(),
            ResignError::Stopped
            | ResignError::Lost
            | ResignError::Bucket(_)
            | ResignError::Refused { .. } => {
                Self::Unavailable { after: Duration::from_secs(5), message: error.to_string() }
            }
            ResignError::Changed | ResignError::Row(_) => Self::Internal(Box::new(error)),
        }
    }
}

impl From<FsckError> for ApiError {
    fn from(error: FsckError) -> Self {
        match error {
            FsckError::Conflict(conflict) => Self::FsckConflict(conflict),
            FsckError::Invalid(message) => Self::BadRequest(message),
            FsckError::Database(error) => error.into(),
            FsckError::SafetyLimit(_) => Self::Conflict(error.to_string()),
            FsckError::Stopped | FsckError::Lost | FsckError::Aborted => {
                Self::Unavailable { after: Duration::from_secs(5), message: error.to_string() }
            }
            FsckError::Row(_) | FsckError::Compare(_) => Self::Internal(Box::new(error)),
        }
    }
}
