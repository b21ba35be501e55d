//! Why a call failed, and what to do about it.

use std::collections::BTreeMap;

use niks3_protocol::api::gc::GcStatus;
use niks3_protocol::duration::GoDuration;
use reqwest::StatusCode;

use super::TokenError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("no server is named")]
    NoServer,
    #[error("{0:?} is not the URL of a server")]
    BadUrl(String),
    #[error("{what} {path} cannot be read")]
    ReadFile { what: &'static str, path: std::path::PathBuf, source: std::io::Error },
    #[error("{what} {path} is not PEM")]
    Pem { what: &'static str, path: std::path::PathBuf },
    #[error("the HTTP client cannot be set up")]
    SetUp(#[source] reqwest::Error),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("a client certificate and its key go together; only one of them was given")]
    HalfIdentity,
    #[error("{host} cannot be reached: {problem}")]
    Unreachable {
        host: String,
        problem: String,
        /// Another try may go better.
        passing: bool,
    },
    #[error("{host} did not answer within {timeout}")]
    TimedOut { host: String, timeout: GoDuration },
    #[error("the addresses for uploads have expired, as {host} says; is the clock of the server right?")]
    Expired { host: String },
    #[error(
        "{host} got other bytes than were sent ({message}): the way there damages them, or this machine's memory does"
    )]
    Damaged { host: String, message: String },
    #[error("{message} ({host} answered {status})")]
    Refused { host: String, status: StatusCode, message: String },
    /// S3 refused what the server signed.
    #[error("{message} ({host} answered {status})")]
    Bucket { host: String, status: StatusCode, message: String },
    #[error("{message} ({host} answered {status})")]
    RefusedObjects {
        host: String,
        status: StatusCode,
        message: String,
        /// By key, what is wrong with each; without them the call would be taken.
        objects: BTreeMap<String, String>,
    },
    #[error("{host} does not answer as a niks3 server does: {problem}")]
    NotNiks3 { host: String, problem: String },
    #[error("{host} is a server of an older version, which cannot {what}")]
    TooOld { host: String, what: &'static str },
    #[error("another collection is running")]
    GcConflict(Box<GcStatus>),
}

/// What TLS says where the other side did not want to go on.
const ALERT: &str = "fatal alert";

impl ClientError {
    /// Wrong configuration or permission: trying again cannot help.
    pub(crate) fn is_configuration(&self) -> bool {
        match self {
            Self::NoServer
            | Self::BadUrl(_)
            | Self::ReadFile { .. }
            | Self::Pem { .. }
            | Self::SetUp(_)
            | Self::HalfIdentity
            | Self::NotNiks3 { .. } => true,
            Self::Token(error) => !error.is_passing(),
            Self::Refused { status, .. } => {
                matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            }
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Expired { .. }
            | Self::Damaged { .. }
            | Self::Bucket { .. }
            | Self::RefusedObjects { .. }
            | Self::TooOld { .. }
            | Self::GcConflict(_) => false,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoServer => Some(
                "give --server or --server-url, set NIKS3_SERVER_URL, or set `default` in $XDG_CONFIG_HOME/niks3/config.toml",
            ),
            Self::Refused { status, message, .. }
                if *status == StatusCode::UNAUTHORIZED && message.starts_with("no identity") =>
            {
                Some(
                    "`niks3 login` keeps a token; --auth-token-file or --client-cert gives one for this call",
                )
            }
            Self::Refused { status, .. } if *status == StatusCode::UNAUTHORIZED => {
                Some("is the token file the one of this cache, and made for its audience?")
            }
            Self::Refused { status, .. } if *status == StatusCode::FORBIDDEN => {
                Some("`niks3 whoami` shows who the server thinks you are and what you may do")
            }
            Self::Bucket { status, .. } if *status == StatusCode::FORBIDDEN => Some(
                "the server signs such uploads: is its clock right, and do its credentials and the bucket's policy let it write?",
            ),
            Self::NotNiks3 { .. } => {
                Some("--server-url is where paths are pushed to; Nix may read them from elsewhere")
            }
            Self::Unreachable { problem, .. } if problem.contains(ALERT) => {
                Some("does the server trust the CA that signed --client-cert?")
            }
            Self::Unreachable { problem, .. } if problem.contains("certificate") => {
                Some("--ca-cert names certificates to trust beside the system's")
            }
            _ => None,
        }
    }

    /// Whether the other side is away, so that other requests to it would fare alike.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. })
            || matches!(self, Self::Token(error) if error.is_passing())
            || self.status().is_some_and(|status| status.is_server_error())
    }

    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. }
            | Self::Bucket { status, .. }
            | Self::RefusedObjects { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// No answer. The causes between ours and the first one say nothing to people.
pub(super) fn unreachable(host: String, error: &reqwest::Error) -> ClientError {
    ClientError::Unreachable { host, problem: first_cause(error), passing: may_be_reached(error) }
}

fn first_cause(error: &reqwest::Error) -> String {
    let mut first: &dyn std::error::Error = error;
    while let Some(cause) = first.source() {
        first = cause;
    }
    first.to_string()
}

/// What is not trusted now will not be in a second.
pub(crate) fn may_be_reached(error: &reqwest::Error) -> bool {
    let problem = first_cause(error);
    !error.is_builder() && !problem.contains("certificate") && !problem.contains(ALERT)
}
