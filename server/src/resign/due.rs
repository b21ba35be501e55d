//! When narinfos are to be signed again. Pure.

use std::time::Duration;

use niks3_protocol::api::gc::GcState;
use time::OffsetDateTime;

/// A server asks so often where another one is at work, and where all is done.
pub(super) const BUSY: Duration = Duration::from_secs(2);
pub(super) const DONE: Duration = Duration::from_secs(30);
/// After a run that failed the next one waits so long, then twice that, and so on.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// A commit that was under way when a run began may be as much older than what it shows of itself.
const MARGIN: Duration = Duration::from_mins(10);
/// What servers with the former keys may still have signed is looked for so long after, and once their last upload is
/// over for certain.
const FOLLOW_UPS: [Duration; 2] = [Duration::from_mins(2), Duration::from_mins(15)];

/// A run, as far as that matters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) state: GcState,
    /// Its keys are those of this server.
    pub(super) mine: bool,
    pub(super) began_at: OffsetDateTime,
    pub(super) finished_at: Option<OffsetDateTime>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A run, over all narinfos or over those that were pushed since.
    Start(Option<OffsetDateTime>),
    /// Nothing; ask again then.
    Wait(Duration),
}

/// What follows from the newest run, and from the newest one that looked at all narinfos. This server has its keys since
/// it started, or since they were `taken`.
pub(super) fn next(
    newest: Option<Seen>,
    whole: Option<Seen>,
    failures: u32,
    taken: Option<OffsetDateTime>,
    upload_lifetime: Duration,
    now: OffsetDateTime,
) -> Next {
    if let Some(newest) = newest {
        if newest.state == GcState::Running {
            return Next::Wait(BUSY);
        }
        if newest.mine && newest.state == GcState::Failed {
            let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
            let rest = newest.finished_at.map_or(Duration::ZERO, |at| until(at + pause, now));
            if !rest.is_zero() {
                return Next::Wait(rest.min(DONE));
            }
        }
    }
    let Some(whole) = whole.filter(|whole| whole.mine && whole.state == GcState::Succeeded) else {
        return Next::Start(None);
    };
    let looked = newest
        .filter(|run| run.mine && run.state == GcState::Succeeded)
        .map_or(whole.began_at, |run| run.began_at);
    let last = upload_lifetime + MARGIN;
    // Until then this server itself signed with its former keys.
    let former = taken.map_or(whole.began_at, |taken| taken.max(whole.began_at));
    let due = FOLLOW_UPS.iter().chain([&last]).any(|after| {
        let at = former + *after;
        at <= now && looked < at
    });
    if due { Next::Start(Some(whole.began_at - MARGIN)) } else { Next::Wait(DONE) }
}

fn until(then: OffsetDateTime, now: OffsetDateTime) -> Duration {
    Duration::try_from(then - now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000 + second).unwrap()
    }

    fn run(state: GcState, began: i64) -> Seen {
        Seen { state, mine: true, began_at: at(began), finished_at: Some(at(began + 10)) }
    }

    #[test]
    fn other_keys_are_a_run_and_a_run_of_another_server_is_waited_for() {
        assert_eq!(next(None, None, 0, None, HOUR, at(0)), Next::Start(None));
        let running = run(GcState::Running, 0);
        assert_eq!(next(Some(running), None, 0, None, HOUR, at(1)), Next::Wait(BUSY));
        let done = Some(run(GcState::Succeeded, 0));
        assert_eq!(next(done, done, 0, None, HOUR, at(60)), Next::Wait(DONE));
        let others = done.map(|run| Seen { mine: false, ..run });
        assert_eq!(next(others, others, 0, None, HOUR, at(60)), Next::Start(None));
    }

    #[test]
    fn what_failed_is_tried_again_ever_more_rarely() {
        let failed = Some(run(GcState::Failed, 0));
        let tried =
            |failures, second| next(failed, failed, failures, None, HOUR, at(second)) == Next::Start(None);
        assert!(!tried(0, 14) && tried(0, 15) && !tried(3, 49) && tried(3, 50) && tried(40, 610));
        let others = failed.map(|run| Seen { mine: false, ..run });
        assert_eq!(next(others, others, 9, None, HOUR, at(11)), Next::Start(None), "that was not ours to do");
    }

    #[test]
    fn what_former_keys_signed_meanwhile_is_looked_for() {
        let whole = Some(run(GcState::Succeeded, 0));
        let again = Next::Start(Some(at(-600)));
        assert_eq!(next(whole, whole, 0, None, HOUR, at(119)), Next::Wait(DONE));
        assert_eq!(next(whole, whole, 0, None, HOUR, at(120)), again);
        let follow = |began| Some(run(GcState::Succeeded, began));
        assert_eq!(next(follow(120), whole, 0, None, HOUR, at(899)), Next::Wait(DONE));
        assert_eq!(next(follow(120), whole, 0, None, HOUR, at(900)), again);
        assert_eq!(next(follow(901), whole, 0, None, HOUR, at(4199)), Next::Wait(DONE));
        assert_eq!(next(follow(901), whole, 0, None, HOUR, at(4200)), again);
        assert_eq!(next(follow(4201), whole, 0, None, HOUR, at(1_000_000)), Next::Wait(DONE), "then no more");
        let late = |newest, second| next(newest, whole, 0, Some(at(3000)), HOUR, at(second));
        assert_eq!(late(follow(901), 3119), Next::Wait(DONE));
        assert_eq!(
            late(follow(901), 3120),
            again,
            "one that had its former keys until then signed with them"
        );
        assert_eq!(late(follow(7201), 1_000_000), Next::Wait(DONE));
        let failed = follow(4201).map(|run| Seen { state: GcState::Failed, ..run });
        assert_eq!(next(failed, whole, 0, None, HOUR, at(5000)), again);
    }
}
