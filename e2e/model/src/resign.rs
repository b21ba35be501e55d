//! `server/src/resign`: a stored narinfo is written anew while it is live. One at a time: they have nothing to do with
//! each other.
//!
//! Each function is one transaction, or one request to the bucket. `None`: that cannot happen now.

use crate::keys::Keys;
use crate::rule::Rule;
use crate::size::Size;
use crate::state::State;

/// How far it is with a narinfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Work {
    /// It has none.
    #[default]
    Idle,
    /// It has read what it says.
    Read,
    /// It has claimed it, and writes.
    Claimed,
    /// The bucket has it; the row does not say so yet.
    Written,
}

/// A server that signs again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Resigner {
    /// How far it is.
    pub work: Work,
    /// The narinfo.
    pub key: usize,
    /// What it said when it was read, and will say: signatures are nothing a reader follows.
    pub says: Keys,
    /// `settles_at` is still the one of its claim.
    pub holds: bool,
    /// Nothing it sent is under way any more.
    pub answered: bool,
    /// Narinfos it may still begin with.
    pub turns: u8,
    /// Answers that may still be lost.
    pub losses: u8,
}

/// `db::resign::list_after`
pub(crate) fn read(size: &Size, state: &mut State, key: usize) -> Option<()> {
    let says = state.bucket[key]?;
    let live = state.rows[key].is_some_and(|row| row.live && row.deleting.is_none());
    if state.resigner.work != Work::Idle || !live || !size.narinfos.contains(key) {
        return None;
    }
    let turns = state.resigner.turns.checked_sub(1)?;
    state.resigner =
        Resigner { work: Work::Read, key, says, turns, losses: state.resigner.losses, ..Resigner::default() };
    Some(())
}

/// `db::resign::claim`; what it does not get is left.
pub(crate) fn claim(size: &Size, state: &mut State) -> Option<()> {
    let Resigner { work: Work::Read, key, says, .. } = state.resigner else { return None };
    let there = state.bucket[key];
    let Some(row) = &mut state.rows[key] else {
        // Without a claim nobody asks.
        if size.holds(Rule::ResignClaims) {
            idle(state);
        } else {
            state.resigner.work = Work::Claimed;
        }
        return Some(());
    };
    let busy = row.unsettled && size.holds(Rule::ResignWaitsForWrites);
    let goes = (!row.live || row.deleting.is_some()) && size.holds(Rule::ResignSeesLive);
    let other = there != Some(says) && size.holds(Rule::ResignChecksRead);
    if busy || goes || other {
        idle(state);
        return Some(());
    }
    row.unsettled |= size.holds(Rule::ResignClaims);
    let resigner = &mut state.resigner;
    (resigner.work, resigner.holds, resigner.answered) = (Work::Claimed, true, true);
    Some(())
}

/// `put`: the bucket says that it has it.
pub(crate) fn write(state: &mut State) -> Option<()> {
    let Resigner { work: Work::Claimed, key, says, .. } = state.resigner else { return None };
    state.bucket[key] = Some(says);
    state.resigner.work = Work::Written;
    Some(())
}

/// No answer: the request may still act, at [`write_late`], and is sent again.
pub(crate) fn lose_write(state: &mut State) -> Option<()> {
    let Resigner { work: Work::Claimed, key, says, .. } = state.resigner else { return None };
    state.resigner.losses = state.resigner.losses.checked_sub(1)?;
    state.resigner.answered = false;
    state.late_resigns[key] = Some(says);
    Some(())
}

/// The server dies after it sent its request.
pub(crate) fn abandon(state: &mut State) -> Option<()> {
    lose_write(state)?;
    idle(state);
    Some(())
}

/// A request without an answer acts after all.
pub(crate) fn write_late(state: &mut State, key: usize) -> Option<()> {
    state.bucket[key] = Some(state.late_resigns[key].take()?);
    Some(())
}

/// `db::resign::settle`
pub(crate) fn settle(size: &Size, state: &mut State) -> Option<()> {
    let Resigner { work: Work::Written, key, holds, answered, .. } = state.resigner else { return None };
    if holds
        && (answered || !size.holds(Rule::ResignLostStays))
        && let Some(row) = &mut state.rows[key]
    {
        row.unsettled = false;
    }
    idle(state);
    Some(())
}

/// `settles_at` passes: every request of the claim has happened or never will, and its server sends no more.
pub(crate) fn time_is_over(size: &Size, state: &mut State, key: usize) {
    state.late_resigns[key] = None;
    if state.resigner.work != Work::Idle && state.resigner.key == key {
        state.resigner.holds = false;
        if state.resigner.work == Work::Claimed && size.holds(Rule::ResignSendsInTime) {
            idle(state);
        }
    }
}

fn idle(state: &mut State) {
    let Resigner { turns, losses, .. } = state.resigner;
    state.resigner = Resigner { turns, losses, ..Resigner::default() };
}
