//! The public keys of one issuer: fetched when a token first needs one, kept, and fetched again when a token
//! names a key that is not known, but not for every such token.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::AuthError;
use super::jwt::{KeySet, Keys};

/// The limit on one fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The limit on one answer.
const MAX_DOCUMENT: usize = 1 << 20;

/// How often keys are fetched.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// After a fetch that succeeded, the next one waits so long, whatever key ids callers make up.
    pause: Duration,
    /// After one that failed.
    pause_after_failure: Duration,
    /// Keys are fetched anew after so long: the issuer may have withdrawn one.
    max_age: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            pause: Duration::from_secs(10),
            pause_after_failure: Duration::from_secs(1),
            max_age: Duration::from_hours(1),
        }
    }
}

/// The keys, and when they were fetched.
#[derive(Debug, Default)]
pub(super) struct KeyCache {
    pace: Pace,
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
        fetch: impl Future<Output = Result<KeySet, FetchError>>,
    ) -> Result<Arc<Keys>, AuthError> {
        if let Some(keys) = self.fresh(id) {
            return Ok(keys);
        }
        let mut last_try = self.last_try.lock().await;
        if let Some(keys) = self.fresh(id) {
            return Ok(keys);
        }
        let pause = |last: Try| if last.failed { self.pace.pause_after_failure } else { self.pace.pause };
        if last_try.is_none_or(|last| last.at.elapsed() >= pause(last)) {
            let at = Instant::now();
            let fetched = fetch.await;
            *last_try = Some(Try { at, failed: fetched.is_err() });
            match fetched {
                Ok(set) => {
                    let keys = Arc::new(Keys::from_set(set));
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
        let young = known.fetched.is_some_and(|at| at.elapsed() < self.pace.max_age);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A set whose only key has this id; a public point of an Ed25519 key will do.
    fn set(id: &str) -> KeySet {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        serde_json::from_value(json!({"keys": [
            {"kty": "new", "kid": "unreadable"},
            {"kty": "oct", "kid": "symmetric", "k": "c2VjcmV0"},
            {"kty": "OKP", "crv": "Ed25519", "kid": "encrypts", "use": "enc", "x": x},
            {"kty": "OKP", "crv": "Ed25519", "kid": id, "x": x},
        ]}))
        .unwrap()
    }

    fn away() -> Result<KeySet, FetchError> {
        Err(FetchError::OwnToken("away".to_owned()))
    }

    async fn knows(cache: &KeyCache, id: &str, issuer: Result<KeySet, FetchError>) -> Option<bool> {
        let keys = cache.for_key(id, std::future::ready(issuer)).await;
        keys.ok().map(|keys| keys.knows(id))
    }

    const LONG: Duration = Duration::from_hours(1000);

    fn cache(pause: Duration, pause_after_failure: Duration, max_age: Duration) -> KeyCache {
        KeyCache { pace: Pace { pause, pause_after_failure, max_age }, ..KeyCache::default() }
    }

    #[tokio::test]
    async fn only_keys_that_can_verify_are_taken() {
        let cache = KeyCache::default();
        assert_eq!(knows(&cache, "a", Ok(set("a"))).await, Some(true));
        for id in ["unreadable", "symmetric", "encrypts"] {
            assert_eq!(knows(&cache, id, Ok(set("a"))).await, Some(false), "{id}");
        }
    }

    #[tokio::test]
    async fn a_new_key_is_found_after_the_pause_and_not_before() {
        let within = cache(LONG, LONG, LONG);
        assert_eq!(knows(&within, "a", Ok(set("a"))).await, Some(true));
        assert_eq!(knows(&within, "b", Ok(set("b"))).await, Some(false));
        let after = cache(Duration::ZERO, LONG, LONG);
        assert_eq!(knows(&after, "a", Ok(set("a"))).await, Some(true));
        assert_eq!(knows(&after, "b", Ok(set("b"))).await, Some(true));
        assert_eq!(knows(&after, "a", Ok(set("b"))).await, Some(false));
    }

    #[tokio::test]
    async fn an_issuer_that_is_away_is_not_asked_by_every_caller() {
        let within = cache(Duration::ZERO, LONG, LONG);
        assert_eq!(knows(&within, "a", away()).await, None);
        assert_eq!(knows(&within, "a", Ok(set("a"))).await, None);
        let after = cache(LONG, Duration::ZERO, LONG);
        assert_eq!(knows(&after, "a", away()).await, None);
        assert_eq!(knows(&after, "a", Ok(set("a"))).await, Some(true));
    }

    #[tokio::test]
    async fn old_keys_are_fetched_again_and_kept_while_their_issuer_is_away() {
        let cache = cache(Duration::ZERO, Duration::ZERO, Duration::ZERO);
        assert_eq!(knows(&cache, "a", Ok(set("a"))).await, Some(true));
        assert_eq!(knows(&cache, "a", away()).await, Some(true));
        assert_eq!(knows(&cache, "b", away()).await, None);
        assert_eq!(knows(&cache, "a", Ok(set("b"))).await, Some(false), "a was withdrawn");
    }
}
