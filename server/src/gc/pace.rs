//! How fast a mark walks beside requests.
//!
//! All rows at once, PostgreSQL would send what this server decodes meanwhile, and pushes would wait: on two cores
//! there is no third. So they are read in batches, and while requests come in small ones, with pauses that last as
//! long: a request waits for less than a millisecond, and a mark takes some times as long, and ends.

use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::Traffic;

/// Objects read at a time while nobody asks for anything: about two milliseconds of a core.
const BATCH: i64 = 1000;
/// And while requests come.
const SMALL_BATCH: i64 = 250;
/// They come, until none did for so long.
const QUIET: Duration = Duration::from_millis(250);

/// The pace of one walk.
pub(super) struct Pace<'a> {
    traffic: &'a Traffic,
    /// Requests that wait for the walk itself.
    waiting: i64,
    /// All that had begun when it was last looked.
    begun: u64,
    careful_until: Option<Instant>,
    batch_since: Instant,
}

impl<'a> Pace<'a> {
    pub(super) fn new(traffic: &'a Traffic, waiting: i64) -> Self {
        let (begun, now) = (traffic.begun(), Instant::now());
        let mut pace = Self { traffic, waiting, begun, careful_until: None, batch_since: now };
        pace.look(now);
        pace
    }

    /// Objects to read next.
    pub(super) fn batch(&self) -> i64 {
        if self.careful_until.is_some() { SMALL_BATCH } else { BATCH }
    }

    /// After a batch.
    pub(super) async fn give_way(&mut self) {
        match self.look(Instant::now()) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => tokio::task::yield_now().await,
        }
        self.batch_since = Instant::now();
    }

    /// How long to pause after a batch that ended now.
    fn look(&mut self, now: Instant) -> Option<Duration> {
        let begun = self.traffic.begun();
        if begun != self.begun || self.traffic.under_way() > self.waiting {
            self.careful_until = Some(now + QUIET);
        }
        self.begun = begun;
        self.careful_until = self.careful_until.filter(|until| *until > now);
        self.careful_until.map(|_| now.duration_since(self.batch_since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_way_while_requests_come_and_goes_on_fast_afterwards() {
        const MS: Duration = Duration::from_millis(1);
        let traffic = Traffic::default();
        let mut pace = Pace::new(&traffic, 0);
        let start = pace.batch_since;
        let mut after = |batch: Duration, begin: Duration| {
            pace.batch_since = start + begin;
            let pause = pace.look(start + begin + batch);
            (pause, pace.batch())
        };
        assert_eq!(after(4 * MS, Duration::ZERO), (None, BATCH));
        // One that came and went during a batch, and one that stays.
        drop(traffic.begin());
        assert_eq!(after(4 * MS, 10 * MS), (Some(4 * MS), SMALL_BATCH));
        assert_eq!(after(3 * MS, 20 * MS), (Some(3 * MS), SMALL_BATCH), "the next may come");
        assert_eq!(after(MS, 14 * MS + QUIET), (None, BATCH));
        let request = traffic.begin();
        assert_eq!(after(2 * MS, 1000 * MS), (Some(2 * MS), SMALL_BATCH));
        assert_eq!(after(2 * MS, 5000 * MS), (Some(2 * MS), SMALL_BATCH), "it is not answered yet");
        drop(request);
        assert_eq!(after(2 * MS, 6000 * MS), (None, BATCH));
    }

    #[test]
    fn who_waits_for_the_walk_does_not_slow_it_down() {
        let traffic = Traffic::default();
        let _asking = traffic.begin();
        assert_eq!(Pace::new(&traffic, 1).batch(), BATCH);
        assert_eq!(Pace::new(&traffic, 0).batch(), SMALL_BATCH);
    }
}
