//! What deleted caches leave in namespaces that they do not own, where no owner reference reaches.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::cache::apply::sweep;
use crate::context::Context;

const EVERY: Duration = Duration::from_mins(10);

/// Sweeps until `stop`, the first time at once.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = sweep(&context).await {
            tracing::warn!(error = error.sentence(), "what deleted caches left could not be swept up");
        }
    }
}
