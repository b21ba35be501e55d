//! Statistics anybody may ask for: counted by one caller at a time, and no more often than a hundredth of the time goes
//! to it. Kept in the rows of objects alone, so that no row is written by every push.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A count is good for so long at least.
const AGE: Duration = Duration::from_secs(2);
/// And for so many times what it took.
const TIMES: u32 = 100;

/// The last count.
#[derive(Debug)]
pub struct Stats<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    last: Option<(T, Instant)>,
    counting: bool,
}

/// The right to count; another may, once this is gone.
#[derive(Debug)]
struct Turn<'a, T>(&'a Stats<T>);

impl<T> Turn<'_, T> {
    fn counted(&self, stats: T, took: Duration, now: Instant) {
        self.0.lock().last = Some((stats, now + AGE.max(took * TIMES)));
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.0.lock().counting = false;
    }
}

impl<T: Copy> Stats<T> {
    /// The last count where it is good still, or where another is under way; else a new one.
    pub async fn read<E>(&self, count: impl AsyncFnOnce() -> Result<T, E>) -> Result<T, E> {
        let started = Instant::now();
        let turn = match self.known(started) {
            Ok(stats) => return Ok(stats),
            Err(turn) => turn,
        };
        let stats = count().await?;
        turn.counted(stats, started.elapsed(), Instant::now());
        Ok(stats)
    }

    fn known(&self, now: Instant) -> Result<T, Turn<'_, T>> {
        let mut state = self.lock();
        match state.last {
            Some((stats, good_until)) if state.counting || now < good_until => Ok(stats),
            _ => {
                state.counting = true;
                Err(Turn(self))
            }
        }
    }
}

impl<T> Stats<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Stats<T> {
    fn default() -> Self {
        Self(Mutex::new(State { last: None, counting: false }))
    }
}

#[cfg(test)]
mod tests {
    use niks3_protocol::api::cache_config::CacheStats;

    use super::*;

    fn of(objects: i64) -> CacheStats {
        CacheStats { objects, logical_bytes: 0 }
    }

    #[test]
    fn a_count_is_made_by_one_and_good_for_as_long_as_it_was_dear() {
        let (stats, start) = (Stats::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        stats.known(start).unwrap_err().counted(of(1), Duration::from_millis(500), start);
        assert_eq!(stats.known(after(49)).unwrap(), of(1));
        let turn = stats.known(after(51)).unwrap_err();
        assert_eq!(stats.known(after(52)).unwrap(), of(1), "nobody waits for another's count");
        turn.counted(of(2), Duration::from_millis(1), after(53));
        drop(turn);
        assert_eq!(stats.known(after(54)).unwrap(), of(2));
        assert!(stats.known(after(56)).is_err());
    }

    #[test]
    fn a_count_that_failed_or_was_given_up_is_made_again() {
        let (stats, now) = (Stats::default(), Instant::now());
        drop(stats.known(now).unwrap_err());
        drop(stats.known(now).unwrap_err());
        stats.known(now).unwrap_err().counted(of(1), Duration::ZERO, now);
        assert_eq!(stats.known(now).unwrap(), of(1));
    }
}
