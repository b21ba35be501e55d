//! `server/src/gc`: mark, sweep, and taking over what a dead sweeper left.
//!
//! Each function is one transaction, or one request to the bucket. `None`: that cannot happen now.

use crate::keys::{KEYS, Keys};
use crate::rule::Rule;
use crate::size::Size;
use crate::state::{Collector, Delete, State};

/// `mark::read`: one repeatable-read snapshot, and what its roots reach.
pub(crate) fn mark(size: &Size, state: &mut State, by: usize) -> Option<()> {
    let Collector { marks, crashes, deletes, .. } = state.collectors[by];
    let idle = deletes == [Delete::None; KEYS] && state.collectors[by].condemn.is_empty();
    if marks == 0 || !idle || !state.collectors[by].uncondemn.is_empty() {
        return None;
    }
    let rows = state.rows_such_that(|_| true);
    // db::marks::list_roots
    let mut roots = state.closures;
    if size.holds(Rule::UploadsAreRoots) {
        let uploads = state.clients.iter().filter(|client| client.open);
        roots = uploads.fold(roots, |roots, upload| roots.and(upload.keys));
    }
    let reached = roots.within(rows).reach(|key| state.refs(key));
    let unreached = rows.without(reached);
    let condemned = state.rows_such_that(|row| row.condemned && row.deleting.is_none());
    let waits = |referrer: usize, key: usize| {
        referrer != key
            && size.holds(Rule::NarinfosFirst)
            && (size.holds(Rule::DependentsFirst) || !size.narinfos.contains(key))
            && Keys::of(&[referrer]).reach(|key| state.refs(key)).contains(key)
    };
    let referrers = std::array::from_fn(|key| Keys::such_that(|it| unreached.contains(it) && waits(it, key)));
    let mut candidates = unreached.within(condemned);
    if !size.holds(Rule::CondemnedBeforeSnapshot) {
        candidates = unreached;
    }
    let condemn = unreached.without(state.rows_such_that(|row| row.condemned || row.deleting.is_some()));
    state.collectors[by] = Collector {
        marked: true,
        condemn,
        uncondemn: reached.within(condemned),
        candidates,
        since: candidates,
        referrers,
        deletes,
        marks: marks - 1,
        crashes,
    };
    Some(())
}

/// `mark::mark` writes what it found, by `db::marks::uncondemn` and then `db::marks::condemn`: all at once, or
/// one object after the other where the size has batches.
pub(crate) fn condemn(size: &Size, state: &mut State, by: usize) -> Option<()> {
    let Collector { condemn, uncondemn, .. } = state.collectors[by];
    if condemn.and(uncondemn).is_empty() {
        return None;
    }
    for key in uncondemn.iter().chain(condemn.iter()).take(if size.batches { 1 } else { KEYS }) {
        let to = condemn.contains(key);
        let collector = &mut state.collectors[by];
        collector.condemn.remove(key);
        collector.uncondemn.remove(key);
        if state.rows[key].is_some_and(|row| row.condemned != to && row.deleting.is_none()) {
            state.set_condemned(key, to);
            if to && !size.holds(Rule::CondemnedBeforeSnapshot) {
                state.collectors[by].since.insert(key);
            }
        }
    }
    Some(())
}

/// `db::marks::claim`, and the delete is sent. What is ripe depends on the grace period, so any candidate may
/// be passed over.
pub(crate) fn claim(size: &Size, state: &mut State, by: usize, key: usize) -> Option<()> {
    let Collector { condemn, uncondemn, candidates, since, referrers, .. } = state.collectors[by];
    let row = state.rows[key].as_mut()?;
    let told = if !size.holds(Rule::ClaimChecksCondemned) {
        candidates.contains(key)
    } else if !size.holds(Rule::ClaimChecksSince) {
        candidates.contains(key) && row.condemned
    } else {
        since.contains(key)
    };
    let marking = !condemn.is_empty() || !uncondemn.is_empty();
    let told = told && !(row.unsettled && size.holds(Rule::ClaimWaitsForWrites));
    if marking || !told || row.deleting.is_some() || !referrers[key].is_empty() {
        return None;
    }
    row.deleting = u8::try_from(by).ok();
    state.collectors[by].deletes[key] = Delete::Sent;
    // Nobody claims it again as what it was: it goes, or comes back condemned anew.
    for collector in &mut state.collectors {
        collector.since.remove(key);
    }
    Some(())
}

/// `db::marks::take_over`, and the delete is sent again. T has passed since the claim: what was sent then has
/// happened or never will, and a living sweeper has its answer.
pub(crate) fn take_over(size: &Size, state: &mut State, by: usize, key: usize) -> Option<()> {
    state.rows[key].filter(|row| row.deleting.is_some())?;
    // A run takes over before it marks. What a server does of itself (`gc::keep`) is a collector that marks nothing.
    if state.collectors[by].marked || state.collectors[by].deletes[key] != Delete::None {
        return None;
    }
    let sent = state.collectors.iter().any(|other| other.deletes[key] == Delete::Sent);
    if size.holds(Rule::TakeOverWaits) {
        if sent && size.holds(Rule::SweeperSendsInTime) {
            return None;
        }
        state.outstanding[key] = 0;
    }
    if let Some(row) = &mut state.rows[key] {
        row.deleting = u8::try_from(by).ok();
    }
    let sends = size.holds(Rule::TakeOverSendsAgain);
    state.collectors[by].deletes[key] = if sends { Delete::Sent } else { Delete::Confirmed };
    Some(())
}

/// The bucket deletes, and says so: `Deletion::Confirmed`.
pub(crate) fn confirm(state: &mut State, by: usize, key: usize) -> Option<()> {
    answer(state, by, key, Delete::Confirmed)?;
    state.bucket[key] = None;
    Some(())
}

/// The bucket did not delete and will not: `Deletion::Refused`, and `db::marks::give_back`. Whoever comes late
/// with that no longer holds the claim, as in [`remove`].
pub(crate) fn refuse(size: &Size, state: &mut State, by: usize, key: usize) -> Option<()> {
    answer(state, by, key, Delete::None)?;
    give_back(size, state, by, key);
    Some(())
}

/// No answer: `Deletion::Unknown`. The request may still act, at [`act_late`].
pub(crate) fn lose_answer(size: &Size, state: &mut State, by: usize, key: usize) -> Option<()> {
    let sends_again = !size.holds(Rule::LostAnswerWaits);
    answer(state, by, key, if sends_again { Delete::Sent } else { Delete::None })?;
    let outstanding = &mut state.outstanding[key];
    *outstanding = (*outstanding + 1).min(2);
    if !size.holds(Rule::OutstandingStaysClaimed) {
        give_back(size, state, by, key);
    }
    Some(())
}

fn answer(state: &mut State, by: usize, key: usize, next: Delete) -> Option<()> {
    let delete = &mut state.collectors[by].deletes[key];
    (*delete == Delete::Sent).then(|| *delete = next)
}

/// A delete whose answer was lost, or whose sender died, acts.
pub(crate) fn act_late(state: &mut State, key: usize) -> Option<()> {
    let outstanding = &mut state.outstanding[key];
    *outstanding = outstanding.checked_sub(1)?;
    state.bucket[key] = None;
    Some(())
}

/// `db::marks::remove`
pub(crate) fn remove(size: &Size, state: &mut State, by: usize, key: usize) -> Option<()> {
    match state.collectors[by].deletes[key] {
        Delete::Confirmed => {}
        Delete::Sent if !size.holds(Rule::RowGoesLast) => {
            let outstanding = &mut state.outstanding[key];
            *outstanding = (*outstanding + 1).min(2);
        }
        _ => return None,
    }
    state.collectors[by].deletes[key] = Delete::None;
    // Whether the row goes or not: the bucket said that the object is gone.
    for referrers in &mut state.collectors[by].referrers {
        referrers.remove(key);
    }
    if holds_claim(size, state, by, key) {
        state.remove_row(key);
    }
    Some(())
}

/// `db::marks::give_back`
fn give_back(size: &Size, state: &mut State, by: usize, key: usize) {
    if holds_claim(size, state, by, key) {
        state.set_condemned(key, true);
        if let Some(row) = &mut state.rows[key] {
            row.deleting = None;
            row.live &= !size.holds(Rule::ComesBackExpected);
        }
    }
}

/// `deleting_by` is still this run.
fn holds_claim(size: &Size, state: &State, by: usize, key: usize) -> bool {
    let claimed_by = state.rows[key].and_then(|row| row.deleting);
    claimed_by.is_some_and(|it| usize::from(it) == by || !size.holds(Rule::SettlesOnlyItsOwn))
}

/// The server dies: what it sent may act, what it was told is forgotten.
pub(crate) fn crash(state: &mut State, by: usize) -> Option<()> {
    let Collector { marks, crashes, deletes, marked, .. } = state.collectors[by];
    if crashes == 0 || (!marked && deletes == [Delete::None; KEYS]) {
        return None;
    }
    for key in (0..KEYS).filter(|key| deletes[*key] == Delete::Sent) {
        state.outstanding[key] = (state.outstanding[key] + 1).min(2);
    }
    state.collectors[by] = Collector { marks, crashes: crashes - 1, ..Collector::default() };
    Some(())
}

/// Forgets what makes no difference any more, so that equal states are one. A run with nothing left to claim is
/// over.
pub(crate) fn tidy(size: &Size, state: &mut State) {
    let by_since = size.holds(Rule::ClaimChecksSince) && size.holds(Rule::ClaimChecksCondemned);
    for collector in &mut state.collectors {
        let Collector { marks, crashes, deletes, .. } = *collector;
        if by_since {
            collector.candidates = collector.since;
        }
        for key in 0..KEYS {
            if !collector.candidates.and(collector.condemn).contains(key) {
                collector.referrers[key] = Keys::NONE;
            }
        }
        let over = [collector.condemn, collector.uncondemn, collector.candidates].map(Keys::is_empty);
        if over == [true; 3] && deletes == [Delete::None; KEYS] {
            *collector = Collector { marks, crashes, ..Collector::default() };
        }
    }
}
