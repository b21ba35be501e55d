//! Asking an issuer for its documents.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::telemetry::causes;

/// The limit on one fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The limit on one answer.
const MAX_DOCUMENT: usize = 1 << 20;

/// Why keys were not fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the CA file")]
    ReadCa(#[source] std::io::Error),
    #[error("{0}")]
    OwnToken(String),
    #[error("the request")]
    Request(#[from] reqwest::Error),
    #[error("the answer of {0} has more than {MAX_DOCUMENT} bytes")]
    TooLarge(String),
    #[error("the answer of {url}")]
    Json { url: String, source: serde_json::Error },
    #[error("the discovery document of {expected} is of {found}")]
    ForeignDocument { expected: String, found: String },
}

impl FetchError {
    /// For a page that needs no identity: without addresses, and without what the issuer wrote.
    pub(super) fn told(&self) -> String {
        match self {
            Self::ReadCa(_) => "its CA file cannot be read".to_owned(),
            Self::OwnToken(_) => "the server has no token of its own".to_owned(),
            Self::Request(error) if error.is_timeout() => format!("no answer within {FETCH_TIMEOUT:?}"),
            Self::Request(error) => match (error.status(), causes(error).skip(1).last()) {
                (Some(status), _) => format!("it answers {status}"),
                // The cause of all is what helps: a name that is not known, a port that nobody listens at, a CA.
                (None, Some(cause)) => format!("no answer: {cause}"),
                (None, None) => "no answer".to_owned(),
            },
            Self::TooLarge(_) => format!("its answer has more than {MAX_DOCUMENT} bytes"),
            Self::Json { .. } => "its answer is not the JSON it should be".to_owned(),
            Self::ForeignDocument { .. } => "its discovery document is another issuer's".to_owned(),
        }
    }
}

/// A client that gives up in time.
pub(super) fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder().timeout(FETCH_TIMEOUT).redirect(reqwest::redirect::Policy::limited(3))
}

/// Asks for a JSON document of bounded length.
pub(super) async fn fetch_json<T: DeserializeOwned>(
    request: reqwest::RequestBuilder,
) -> Result<T, FetchError> {
    let mut answer = request.send().await?.error_for_status()?;
    let url = answer.url().to_string();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_DOCUMENT {
            return Err(FetchError::TooLarge(url));
        }
    }
    serde_json::from_slice(&body).map_err(|source| FetchError::Json { url, source })
}
