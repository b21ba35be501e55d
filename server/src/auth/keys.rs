//! The public keys of one issuer: fetched when a token first needs one, kept, and fetched again when a token
//! names a key that is not known, but not for every such token.

use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use niks3_protocol::api::health::{IssuerKeys, IssuerProblem, IssuerState};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::AuthError;
use super::fetch::FetchError;
use super::jwt::{KeySet, Keys};

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
    /// Why there are no newer ones, where the last try failed.
    problem: Option<IssuerProblem>,
}

#[derive(Debug, Clone, Copy)]
struct Try {
    /// Its end: it may last longer than the pause, and who waited for it is not to begin the next.
    at: Instant,
    failed: bool,
}

impl KeyCache {
    /// The keys to check a token with that names the key `id`; `fetch` is polled only where that is needed.
    /// An issuer that is away keeps the keys it had, and one that is slow keeps only him waiting whose key is not among them.
    pub(super) async fn for_key(
        &self,
        id: &str,
        fetch: impl Future<Output = Result<KeySet, FetchError>>,
    ) -> Result<Arc<Keys>, AuthError> {
        if let Some(keys) = self.fresh(id) {
            return Ok(keys);
        }
        let mut last_try = if let Ok(last_try) = self.last_try.try_lock() {
            last_try
        } else {
            let known = self.known();
            if known.keys.knows(id) {
                return Ok(known.keys);
            }
            self.last_try.lock().await
        };
        if let Some(keys) = self.fresh(id) {
            return Ok(keys);
        }
        let pause = |last: Try| if last.failed { self.pace.pause_after_failure } else { self.pace.pause };
        if last_try.is_none_or(|last| last.at.elapsed() >= pause(last)) {
            *last_try = Some(self.fetched(fetch).await);
        }
        let known = self.known();
        if !known.keys.knows(id) && last_try.is_some_and(|last| last.failed) {
            return Err(AuthError::Unavailable("its issuer did not give its keys".to_owned()));
        }
        Ok(known.keys)
    }

    /// Fetches where the last try failed, whether or not a token needs it: who looks at what is told of this issuer would
    /// else read of an outage that is over.
    pub(super) async fn retry(&self, fetch: impl Future<Output = Result<KeySet, FetchError>>) {
        let mut last_try = self.last_try.lock().await;
        if last_try.is_some_and(|last| last.failed) {
            *last_try = Some(self.fetched(fetch).await);
        }
    }

    /// What is told of this issuer.
    pub(super) fn state(&self, name: Option<String>) -> IssuerState {
        let known = self.known();
        let young = known.fetched.is_some_and(|at| at.elapsed() < self.pace.max_age);
        let keys = match (known.fetched, &known.problem) {
            (None, _) => IssuerKeys::Absent,
            (Some(_), Some(_)) if !young => IssuerKeys::Stale,
            (Some(_), _) => IssuerKeys::Fresh,
        };
        IssuerState { name, keys, problem: known.problem }
    }

    /// Keys that were fetched take the place of all others; where they were not, those stay.
    async fn fetched(&self, fetch: impl Future<Output = Result<KeySet, FetchError>>) -> Try {
        let error = match fetch.await {
            Ok(set) => {
                let keys = Arc::new(Keys::from_set(set));
                *self.known_mut() = Known { keys, fetched: Some(Instant::now()), problem: None };
                return Try { at: Instant::now(), failed: false };
            }
            Err(error) => error,
        };
        let (message, before) = (error.told(), self.known().problem);
        if before.as_ref().is_none_or(|before| before.message != message) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the keys of a token issuer were not fetched");
        }
        let since = before.map_or_else(now, |before| before.since);
        self.known_mut().problem = Some(IssuerProblem { since, message });
        Try { at: Instant::now(), failed: true }
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
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

fn now() -> String {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default()
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
    async fn what_became_of_the_keys_is_told() {
        let told = |cache: &KeyCache| {
            let state = cache.state(Some("ci".to_owned()));
            (state.keys, state.problem.map(|problem| problem.message))
        };
        let away_since = Some("the server has no token of its own".to_owned());
        let young = cache(Duration::ZERO, Duration::ZERO, LONG);
        assert_eq!(told(&young), (IssuerKeys::Absent, None), "nobody asked for them");
        young.retry(async { panic!("nor does a look at it") }).await;
        assert_eq!(knows(&young, "a", away()).await, None);
        assert_eq!(told(&young), (IssuerKeys::Absent, away_since.clone()));
        let since = young.known().problem.unwrap().since;
        assert_eq!((since.len(), since.ends_with('Z')), ("2026-01-01T00:00:00Z".len(), true), "{since}");
        young.known_mut().problem.as_mut().unwrap().since = "long ago".to_owned();
        young.retry(std::future::ready(away())).await;
        assert_eq!(young.known().problem.unwrap().since, "long ago", "the first failure counts");
        young.retry(std::future::ready(Ok(set("a")))).await;
        assert_eq!(told(&young), (IssuerKeys::Fresh, None), "without a token");
        assert_eq!(knows(&young, "b", away()).await, None);
        assert_eq!(told(&young), (IssuerKeys::Fresh, away_since.clone()));
        let old = cache(Duration::ZERO, Duration::ZERO, Duration::ZERO);
        assert_eq!(knows(&old, "a", Ok(set("a"))).await, Some(true));
        assert_eq!(told(&old), (IssuerKeys::Fresh, None), "they are fetched again when a token comes");
        assert_eq!(knows(&old, "a", away()).await, Some(true));
        assert_eq!(told(&old), (IssuerKeys::Stale, away_since));
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
    async fn an_issuer_that_hangs_is_asked_once_for_all_who_wait() {
        let (pause, hangs) = (Duration::from_millis(500), Duration::from_millis(700));
        let cache = cache(pause, pause, LONG);
        let asked = std::sync::atomic::AtomicU32::new(0);
        let callers = (0..4).map(|_| {
            cache.for_key("a", async {
                asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::time::sleep(hangs).await;
                away()
            })
        });
        assert!(futures::future::join_all(callers).await.iter().all(Result::is_err));
        assert_eq!(asked.into_inner(), 1);
    }

    #[tokio::test]
    async fn old_keys_count_while_somebody_else_fetches_newer_ones() {
        let cache = cache(Duration::ZERO, Duration::ZERO, Duration::ZERO);
        assert_eq!(knows(&cache, "a", Ok(set("a"))).await, Some(true));
        let hangs = cache.for_key("a", std::future::pending());
        let other = async {
            tokio::task::yield_now().await;
            cache.for_key("a", async { panic!("one is asking") }).await
        };
        let done = tokio::time::timeout(Duration::from_secs(5), async {
            tokio::select! { biased; _ = hangs => panic!("nobody answered"), keys = other => keys }
        });
        assert!(done.await.expect("it waits for the issuer").unwrap().knows("a"));
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
