//! Staying until a run of the server ends: a collection, or a comparison.

use std::time::Duration;

use niks3_protocol::api::gc::GcState;
use tokio::time::Instant;

use crate::client::ClientError;
use crate::printer::Printer;

/// Before the first look at the run; each further pause is twice as long.
const FIRST_POLL: Duration = Duration::from_millis(50);
/// The longest pause between two looks.
const POLL: Duration = Duration::from_secs(1);
/// Between two lines about it.
const LINE_PAUSE: Duration = Duration::from_secs(10);
/// How long a run with other parameters is waited for.
pub(super) const BUSY_LIMIT: Duration = Duration::from_hours(1);

/// A run of the server.
pub(super) trait Run {
    /// How it stands.
    fn state(&self) -> GcState;
    /// What it is doing, in a line.
    fn doing(&self) -> String;
}

/// Waits for the end of a run; `look` is how it stands by then.
pub(super) async fn for_end<R: Run>(
    started: R,
    printer: Printer,
    look: impl AsyncFn(&R) -> Result<R, ClientError>,
) -> Result<R, ClientError> {
    let (mut run, mut said, mut pause) = (started, Instant::now(), FIRST_POLL);
    while run.state() == GcState::Running {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(POLL);
        run = look(&run).await?;
        if said.elapsed() >= LINE_PAUSE {
            said = Instant::now();
            printer.say(&run.doing());
        }
    }
    Ok(run)
}
