//! How fast S3 is asked: no faster than it was said, and more slowly while S3 throttles.
//!
//! A turn is waited for inside the limit on one request ([`super::BucketConfig::request_timeout`]), so no request
//! goes out later than T of docs/gc.md allows. That is why this is not the SDK's own adaptive mode, which waits
//! outside of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::http::StatusCode;

/// Who would wait longer for a turn is told to come again instead.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Requests a second that S3 is always asked.
const SLOWEST: f64 = 1.0;
/// Without a limit, this fast is as fast as can be.
const FREE: f64 = 10_000.0;
/// Answers that come this close together say the same thing once.
const PERIOD: Duration = Duration::from_secs(1);

/// How fast S3 may be asked now.
#[derive(Debug)]
pub(super) struct Pace {
    limit: Option<f64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests a second; none is any number.
    rate: Option<f64>,
    /// The next free turn.
    next: Instant,
    /// When the rate last changed.
    changed: Instant,
    /// When S3 last made it lower.
    throttled: Option<Instant>,
    /// Requests since `period` began, and of the period before.
    period: Instant,
    sent: u32,
    sent_before: u32,
}

impl Pace {
    /// At most so many requests a second; 0 is any number.
    pub(super) fn new(limit: u32) -> Self {
        let now = Instant::now();
        let limit = (limit > 0).then(|| f64::from(limit));
        let state = State {
            rate: limit,
            next: now,
            changed: now,
            throttled: None,
            period: now,
            sent: 0,
            sent_before: 0,
        };
        Self { limit, state: Mutex::new(state) }
    }

    /// When the next request may go out, or how long that would be.
    fn turn(&self, now: Instant) -> Result<Instant, Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_duration_since(state.period);
        if elapsed >= PERIOD {
            state.sent_before = if elapsed < PERIOD * 2 { state.sent } else { 0 };
            (state.period, state.sent) = (now, 0);
        }
        state.sent += 1;
        self.recover(&mut state, now);
        let Some(rate) = state.rate else { return Ok(now) };
        let turn = state.next.max(now);
        let wait = turn - now;
        if wait > MAX_WAIT {
            return Err(wait);
        }
        state.next = turn + Duration::from_secs_f64(1.0 / rate);
        Ok(turn)
    }

    /// A quarter faster for each period in which S3 did not throttle.
    fn recover(&self, state: &mut State, now: Instant) {
        let (Some(rate), Some(_)) = (state.rate, state.throttled) else { return };
        let periods = now.saturating_duration_since(state.changed).as_secs().min(60);
        if periods == 0 {
            return;
        }
        state.changed = now;
        let faster = (0..periods).fold(rate, |rate, _| rate * 1.25 + 1.0);
        if faster >= self.limit.unwrap_or(FREE) {
            (state.rate, state.throttled) = (self.limit, None);
        } else {
            state.rate = Some(faster);
        }
    }

    /// S3 said that it is asked too often: half as fast from now on.
    fn slow_down(&self, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.throttled.is_some_and(|before| now.saturating_duration_since(before) < PERIOD) {
            return;
        }
        let measured = f64::from(state.sent.max(state.sent_before));
        let rate = state.rate.map_or(measured, |rate| rate.min(measured.max(SLOWEST * 2.0)));
        let slower = (rate / 2.0).max(SLOWEST);
        tracing::warn!(requests_a_second = slower, "S3 throttles: it is asked more slowly");
        (state.rate, state.throttled, state.changed) = (Some(slower), Some(now), now);
    }
}

/// Connections whose requests wait for their turn.
#[derive(Debug)]
pub(super) struct Paced {
    pub(super) connector: SharedHttpConnector,
    pub(super) pace: Arc<Pace>,
}

impl HttpConnector for Paced {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (connector, pace) = (self.connector.clone(), Arc::clone(&self.pace));
        HttpConnectorFuture::new(async move {
            let now = Instant::now();
            match pace.turn(now) {
                Ok(turn) if turn > now => tokio::time::sleep_until(turn.into()).await,
                Ok(_) => {}
                Err(wait) => return Ok(busy(wait)),
            }
            let response = connector.call(request).await?;
            if matches!(response.status().as_u16(), 429 | 503) {
                pace.slow_down(Instant::now());
            }
            Ok(response)
        })
    }
}

/// In an answer to what did not go out.
const HELD_BACK: &str = "x-niks3-held-back";

/// Whether a request did not go out.
pub(super) fn was_held_back(answer: &HttpResponse) -> bool {
    answer.headers().contains_key(HELD_BACK)
}

/// What S3 itself would say.
fn busy(wait: Duration) -> HttpResponse {
    let body = "<Error><Code>SlowDown</Code><Message>too many requests wait for their turn</Message></Error>";
    let status = StatusCode::try_from(503).expect("503 should be a status");
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    response.headers_mut().insert("retry-after", (wait.as_secs() + 1).to_string());
    response.headers_mut().insert(HELD_BACK, "true");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn without_a_limit_nobody_waits_until_s3_throttles() {
        let (pace, start) = (Pace::new(0), Instant::now());
        for _ in 0..1000 {
            assert_eq!(pace.turn(start), Ok(start));
        }
        pace.slow_down(start);
        pace.slow_down(after(start, 0.1));
        // 1000 a second were too many: 500 are tried.
        let turns: Vec<Instant> = (0..500).map(|_| pace.turn(start).unwrap()).collect();
        let last = turns[499] - start;
        assert!((0.9..1.1).contains(&last.as_secs_f64()), "{last:?}");
        // Ever faster while S3 does not throttle again, and then as before.
        let later = after(start, 60.0);
        assert_eq!(pace.turn(later), Ok(later));
        assert_eq!(pace.turn(later), Ok(later));
    }

    #[test]
    fn a_limit_is_kept_and_who_would_wait_too_long_is_sent_away() {
        let (pace, start) = (Pace::new(10), Instant::now());
        let turns: Vec<_> = (0..60).map(|_| pace.turn(start)).collect();
        let waits = turns.iter().flatten().filter(|turn| **turn > start).count();
        assert_eq!(waits, 50, "one at once, and those of the next 5 s");
        assert!(turns[59].is_err());
        pace.slow_down(start);
        let later = after(start, 120.0);
        assert_eq!(pace.turn(later), Ok(later));
        let next = pace.turn(later).unwrap() - later;
        assert!((0.09..0.11).contains(&next.as_secs_f64()), "the limit again: {next:?}");
    }

    #[test]
    fn s3_is_always_asked_something() {
        let (pace, start) = (Pace::new(0), Instant::now());
        for second in 0..20 {
            pace.slow_down(after(start, f64::from(second) * 1.5));
        }
        let now = after(start, 30.0);
        assert_eq!(pace.turn(now), Ok(now));
        assert!(pace.turn(now).unwrap() - now <= Duration::from_secs(1));
    }
}
