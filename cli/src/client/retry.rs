//! When a call is tried again: 429, 5xx and broken connections, with growing, jittered pauses.

use std::time::Duration;

use rand::Rng as _;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::ClientError;

/// Tries of one call.
const MAX_ATTEMPTS: u32 = 7;
/// Before the second try; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause, whatever a server asks for.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The tries of one call.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failed: u32,
    asked: Option<Duration>,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Remembers when the server wants to be asked again.
    pub(super) fn note(&mut self, headers: &HeaderMap) {
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        self.asked = seconds.map(Duration::from_secs);
    }

    /// Waits before the next try, or gives the error back where there is to be none.
    pub(super) async fn wait_or(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.failed += 1;
        if self.failed >= MAX_ATTEMPTS || !may_pass(&error) {
            return Err(error);
        }
        let growing = FIRST_PAUSE * 2_u32.pow(self.failed - 1);
        let jittered = growing.mul_f64(rand::rng().random_range(0.5..1.5));
        let pause = self.asked.take().unwrap_or(jittered).min(MAX_PAUSE);
        tracing::debug!(?pause, error = &error as &dyn std::error::Error, "trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Whether the same call may succeed later.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { status, .. } | ClientError::Bucket { status, .. } => is_passing(*status),
        ClientError::Token(error) => error.is_passing(),
        ClientError::Unreachable { passing, .. } => *passing,
        ClientError::TimedOut { .. } => true,
        _ => false,
    }
}

/// Whether a status speaks of this moment only.
pub(super) fn is_passing(status: StatusCode) -> bool {
    match status {
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => false,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => true,
        _ => status.is_server_error(),
    }
}
