//! How many requests to S3 are under way at a time: fewer when it asks for that, slowly more again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many times all turns must have gone well before there is one more.
const ROUNDS: usize = 4;

/// Additive increase, multiplicative decrease, as TCP does it.
#[derive(Debug)]
pub(super) struct Pace {
    free: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    max: usize,
    /// Permits that are to go when they come back.
    owed: usize,
    /// Successes since the last change.
    successes: usize,
    slowed: Option<Instant>,
}

impl Pace {
    pub(super) fn new(max: usize) -> Self {
        let state = State { limit: max, max, owed: 0, successes: 0, slowed: None };
        Self { free: Arc::new(Semaphore::new(max)), state: Mutex::new(state) }
    }

    /// Waits for a turn, which lasts as long as what is given.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        Turn { pace: self, permit, began: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request's turn.
pub(super) struct Turn<'a> {
    pace: &'a Pace,
    permit: Option<OwnedSemaphorePermit>,
    began: Instant,
}

impl Turn<'_> {
    /// It was answered: when all turns were, a few times over, there is one more.
    pub(super) fn went_well(&self) {
        let mut state = self.pace.lock();
        state.successes += 1;
        if state.limit < state.max && state.successes >= ROUNDS * state.limit {
            state.successes = 0;
            state.limit += 1;
            if state.owed > 0 { state.owed -= 1 } else { self.pace.free.add_permits(1) }
        }
    }

    /// S3 asked for fewer: half the turns. What was under way when that was done last says nothing new.
    pub(super) fn was_too_much(&self) {
        let mut state = self.pace.lock();
        if state.slowed.is_some_and(|slowed| self.began <= slowed) {
            return;
        }
        let limit = (state.limit / 2).max(1);
        tracing::debug!(limit, "S3 asks for fewer requests at a time");
        let fewer = state.limit - limit;
        state.owed += fewer - self.pace.free.forget_permits(fewer);
        state.limit = limit;
        state.successes = 0;
        state.slowed = Some(Instant::now());
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.pace.lock();
        if state.owed > 0
            && let Some(permit) = self.permit.take()
        {
            state.owed -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn half_the_turns_when_it_is_too_much_and_one_more_for_each_round_that_goes_well() {
        let pace = Pace::new(8);
        let mut turns = Vec::new();
        for _ in 0..6 {
            turns.push(pace.turn().await);
        }
        turns[0].was_too_much();
        turns[1].was_too_much();
        let now = || (pace.free.available_permits(), pace.lock().limit);
        assert_eq!((now(), pace.lock().owed), ((0, 4), 2), "the second one says nothing new");
        turns.clear();
        assert_eq!((now(), pace.lock().owed), ((4, 4), 0));

        for _ in 0..4 * ROUNDS {
            pace.turn().await.went_well();
        }
        assert_eq!(now(), (5, 5));
        for _ in 0..100 * ROUNDS {
            pace.turn().await.went_well();
        }
        assert_eq!(now(), (8, 8));
        for _ in 0..9 {
            pace.turn().await.was_too_much();
        }
        assert_eq!(now(), (1, 1), "one is always left");
    }
}
