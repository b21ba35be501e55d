//! Deletions without an answer, and those of servers that died, are sent again for as long as a server runs, and not only by
//! collections: whoever pushes such a key waits for that, and the next collection may be a day away.
//!
//! Each pass claims by a number of its own, so it is what a collection is that takes over and then ends: safe beside
//! those, and beside other replicas (rule 8 of docs/gc.md).

use std::error::Error;
use std::sync::Arc;

use super::GcError;
use super::run::Progress;
use super::sweep;
use crate::app::App;

/// Takes over what has no answer, so often as one request may take: T is ten times that.
pub async fn keep(app: Arc<App>) {
    let stop = app.gc.stop.child_token();
    while !stop.is_cancelled() {
        tokio::time::sleep(app.bucket.config().request_timeout).await;
        if app.health.require_database().is_err() || app.health.require_storage().is_err() {
            continue;
        }
        let number = match number() {
            Ok(number) => number,
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "deletions without an answer wait");
                continue;
            }
        };
        match sweep::take_over(&app, &Progress::new(number), &stop).await {
            Ok(()) | Err(GcError::Stopped) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "deletions without an answer wait");
            }
        }
    }
}

/// Who claims: nobody else ever has this number, and runs have those above zero.
fn number() -> Result<i64, getrandom::Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    Ok(i64::from_le_bytes(bytes) | i64::MIN)
}
