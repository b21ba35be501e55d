//! Who may act, by a candidate's own clock alone: pure, so that a test can run any clocks and pauses against it.

use std::time::Duration;

/// How long a lease that nobody renews keeps others away.
pub(super) const LASTS: Duration = Duration::from_secs(15);
/// Who has not renewed for so long does nothing any more, well before others begin: they count from when they saw the
/// last renewal, which is later than when it was sent.
pub(super) const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// A moment on the candidate's own clock, which never goes back.
pub(super) type Moment = Duration;

/// A lease as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Another one after each write.
    pub(super) version: Option<String>,
    /// Who has it; empty where nobody does.
    pub(super) holder: String,
    /// How long it keeps others away.
    pub(super) lasts: Duration,
}

/// What a candidate knows.
#[derive(Debug)]
pub(super) struct Election {
    identity: String,
    /// Since when the lease looks as it does.
    seen: Option<(Option<String>, Moment)>,
    until: Option<Moment>,
    deadline: Duration,
}

impl Election {
    /// Of the candidate of this name.
    pub(super) fn new(identity: String) -> Self {
        Self { identity, seen: None, until: None, deadline: RENEW_DEADLINE }
    }

    /// Whether the lease may be taken as it was read, by a write that fails where it has changed meanwhile.
    pub(super) fn may_take(&mut self, now: Moment, found: &Found) -> bool {
        let since = match &self.seen {
            Some((before, since)) if *before == found.version => *since,
            _ => {
                self.seen = Some((found.version.clone(), now));
                now
            }
        };
        found.holder.is_empty() || found.holder == self.identity || now.saturating_sub(since) >= found.lasts
    }

    /// A write that was sent at `sent` took or renewed the lease. Gives back how long the candidate may act.
    pub(super) fn won(&mut self, sent: Moment) -> Moment {
        let until = sent + self.deadline;
        self.until = Some(until);
        until
    }

    /// The lease is another's, or was given back.
    pub(super) fn lost(&mut self) {
        self.until = None;
    }

    /// Whether the candidate may act.
    pub(super) fn acts(&self, now: Moment) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    use super::*;

    /// What happens to a candidate, in milliseconds of true time.
    #[derive(Debug, Clone, Copy)]
    struct Turn {
        who: usize,
        /// How long the candidate did nothing before: it was stopped, or only waited.
        pause: u64,
        /// From its sending to the write at the server, and from there to the answer.
        way: (u64, u64),
        /// The request or its answer gets lost.
        fails: Option<bool>,
    }

    struct Candidate {
        election: Election,
        /// Its clock began at another time, and runs at another speed.
        offset: u64,
        percent: u64,
        /// When its last request is answered.
        busy: u64,
    }

    impl Candidate {
        fn clock(&self, now: u64) -> Moment {
            Duration::from_millis(self.offset + now * self.percent / 100)
        }
    }

    fn turn() -> impl Strategy<Value = Turn> {
        let pause = prop_oneof![6 => 0..3000_u64, 1 => 0..40_000_u64];
        let way =
            (prop_oneof![4 => 0..50_u64, 1 => 0..4000_u64], prop_oneof![4 => 0..50_u64, 1 => 0..4000_u64]);
        let fails = prop_oneof![6 => Just(None), 1 => any::<bool>().prop_map(Some)];
        (0..3_usize, pause, way, fails).prop_map(|(who, pause, way, fails)| Turn { who, pause, way, fails })
    }

    /// In true time.
    enum Event {
        /// A candidate reads the lease, and writes it where it may.
        Look(Turn),
        /// The server is asked to write over the version that was read, by a request sent at a moment of its clock.
        Write {
            turn: Turn,
            version: u64,
            sent: Moment,
        },
        Answer {
            who: usize,
            won: Option<Moment>,
        },
    }

    /// How often somebody began to act, or who did while another still acts.
    fn run(candidates: &mut [Candidate], turns: &[Turn]) -> Result<u32, String> {
        let (mut events, mut number) = (BTreeMap::new(), 0_u32);
        let mut add = |events: &mut BTreeMap<(u64, u32), Event>, at: u64, event: Event| {
            number += 1;
            events.insert((at, number), event);
        };
        for turn in turns {
            let candidate = &mut candidates[turn.who];
            let at = candidate.busy + turn.pause;
            candidate.busy = at + turn.way.0 + turn.way.1;
            add(&mut events, at, Event::Look(*turn));
        }
        // The lease at the server: a version, and who has it.
        let (mut version, mut holder, mut began) = (0_u64, String::new(), 0);
        while let Some(((now, _), event)) = events.pop_first() {
            match event {
                Event::Look(turn) => {
                    let found =
                        Found { version: Some(version.to_string()), holder: holder.clone(), lasts: LASTS };
                    let candidate = &mut candidates[turn.who];
                    let sent = candidate.clock(now);
                    if candidate.election.may_take(sent, &found) && turn.fails != Some(true) {
                        add(&mut events, now + turn.way.0, Event::Write { turn, version, sent });
                    }
                }
                Event::Write { turn, version: read, sent } => {
                    let won = read == version;
                    if won {
                        (version, holder) = (version + 1, format!("candidate {}", turn.who));
                    }
                    // An answer that is lost tells nothing: what was so before goes on to its end.
                    if turn.fails.is_none() {
                        let answer = Event::Answer { who: turn.who, won: won.then_some(sent) };
                        add(&mut events, now + turn.way.1, answer);
                    }
                }
                Event::Answer { who, won: None } => candidates[who].election.lost(),
                Event::Answer { who, won: Some(sent) } => {
                    candidates[who].election.won(sent);
                    began += 1;
                    let acting = |candidate: &&Candidate| candidate.election.acts(candidate.clock(now));
                    if candidates.iter().filter(acting).count() > 1 {
                        return Err(format!("candidate {who} and another act at {now} ms"));
                    }
                }
            }
        }
        Ok(began)
    }

    type Clocks = Vec<(u64, u64)>;

    fn story() -> impl Strategy<Value = (Clocks, Vec<Turn>)> {
        let clocks = prop::collection::vec((0..1_000_000_u64, 85..=115_u64), 3);
        (clocks, prop::collection::vec(turn(), 1..80))
    }

    /// What comes of many stories where a renewal lets a candidate act for so long.
    fn outcomes(deadline: Duration) -> impl Iterator<Item = Result<u32, String>> {
        let mut runner = TestRunner::deterministic();
        (0..4000).map(move |_| {
            let (clocks, turns) = story().new_tree(&mut runner).unwrap().current();
            let candidates = clocks.iter().enumerate().map(|(who, (offset, percent))| Candidate {
                election: Election { deadline, ..Election::new(format!("candidate {who}")) },
                offset: *offset,
                percent: *percent,
                busy: 0,
            });
            run(&mut candidates.collect::<Vec<_>>(), &turns)
        })
    }

    #[test]
    fn two_never_act_whatever_their_clocks_and_pauses() {
        let mut began = 0;
        for outcome in outcomes(RENEW_DEADLINE) {
            began += outcome.unwrap();
        }
        assert!(began > 10_000, "{began}: too few acted at all");
    }

    #[test]
    fn acting_for_longer_than_the_lease_lasts_is_caught() {
        assert!(outcomes(LASTS + Duration::from_secs(3)).any(|outcome| outcome.is_err()));
    }

    #[test]
    fn one_takes_over_from_who_is_gone() {
        let (mut election, second) = (Election::new("b".to_owned()), Duration::from_secs(1));
        let found = |version: &str, holder: &str| Found {
            version: Some(version.to_owned()),
            holder: holder.to_owned(),
            lasts: LASTS,
        };
        assert!(!election.may_take(second, &found("1", "a")));
        assert!(!election.may_take(second * 10, &found("2", "a")), "it was renewed meanwhile");
        assert!(!election.may_take(second * 24, &found("2", "a")));
        assert!(election.may_take(second * 25, &found("2", "a")));
        assert!(election.may_take(second, &found("3", "")), "it was given back");
        assert!(!election.acts(second));
        election.won(second);
        assert!(election.acts(second * 10) && !election.acts(second * 11));
        election.lost();
        assert!(!election.acts(second * 2));
    }
}
