//! The public keys of one issuer: fetched when a token first needs one, kept, and fetched again when a token
//! names a key that is not known, but not for every such token.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::AuthError;
use super::jwt::Keys;

/// After a fetch that succeeded, the next one waits so long, whatever key ids callers make up.
const PAUSE: Duration = Duration::from_secs(10);
/// After one that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Keys are fetched anew after so long: the issuer may have withdrawn one.
const MAX_AGE: Duration = Duration::from_hours(1);
/// The limit on one fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The limit on one answer.
const MAX_DOCUMENT: usize = 1 << 20;

/// The keys, and when they were fetched.
#[derive(Debug, Default)]
pub(super) struct KeyCache {
    known: RwLock<Known>,
    /// The last try. Held during a fetch: one at a time is the point.
    last_try: Mutex<Option<Try>>,
}

#[derive(Debug, Default, Clone)]
struct Known {
    keys: Arc<Keys>,
    fetched: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Try {
    at: Instant,
    failed: bool,
}

impl KeyCache {
    /// The keys to check a token with that names the key `id`; `fetch` is polled only where that is needed.
    /// An issuer that is away keeps the keys it had.
    pub(super) async fn for_key(
        &self,
        id: &str,
        fetch: impl Future<Output = Result<JwkSet, FetchError>>,
    ) -> Result<Arc<Keys>, AuthError> {
        if let Some(keys) = self.fresh(id) {
            return Ok(keys);
        }
        let mut last_try = self.last_try.lock().await;
        if let Some(keys) = self.fresh(id) {
            return Ok(keys);
        }
        let pause = |last: Try| if last.failed { PAUSE_AFTER_FAILURE } else { PAUSE };
        if last_try.is_none_or(|last| last.at.elapsed() >= pause(last)) {
            let at = Instant::now();
            let fetched = fetch.await;
            *last_try = Some(Try { at, failed: fetched.is_err() });
            match fetched {
                Ok(set) => {
                    let keys = Arc::new(Keys::from_set(&set));
                    let known = Known { keys, fetched: Some(Instant::now()) };
                    *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the keys of a token issuer were not fetched");
                }
            }
        }
        let known = self.known();
        if !known.keys.knows(id) && last_try.is_some_and(|last| last.failed) {
            return Err(AuthError::Unavailable("its issuer did not give its keys".to_owned()));
        }
        Ok(known.keys)
    }

    fn known(&self) -> Known {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fresh(&self, id: &str) -> Option<Arc<Keys>> {
        let known = self.known();
        let young = known.fetched.is_some_and(|at| at.elapsed() < MAX_AGE);
        (young && known.keys.knows(id)).then_some(known.keys)
    }
}

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
