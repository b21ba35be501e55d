//! What a run is: all that follows from arguments, so that the same plan is the same schedule.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Everything that decides what a run does, but the order in which threads come to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Every choice follows from it.
    pub seed: u64,
    /// How long clients, collectors and faults go on.
    pub seconds: u64,
    /// Store paths that everybody pushes.
    pub paths: usize,
    /// Clients that push as fast as they are answered.
    pub pushers: usize,
    /// Clients that take their time, and longer than a collection between any two calls.
    pub slow_pushers: usize,
    /// Clients that start collections.
    pub collectors: usize,
    /// Clients that read through the servers.
    pub readers: usize,
    /// Kill servers.
    pub kills: bool,
    /// Seconds that one S3 request may take; T is ten times that.
    pub request_seconds: u64,
}

impl Plan {
    /// A request of S3 acts at most so long after it was sent: well within T.
    pub fn latest(&self) -> Duration {
        Duration::from_millis(self.request_seconds * 5_500)
    }

    /// T of docs/gc.md.
    pub fn settle(&self) -> Duration {
        Duration::from_secs(self.request_seconds * 10)
    }

    /// How long the run goes on before it is judged.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}
