//! `server/src/push/narinfos.rs`: the server alone writes narinfos.
//!
//! Each function is one transaction, or one request to the bucket. `None`: that cannot happen now.

use crate::keys::Keys;
use crate::push::{end, fail};
use crate::rule::Rule;
use crate::size::Size;
use crate::state::{Client, Phase, State};

/// `try_claim`: all that the commit needs, or it waits.
pub(crate) fn claim_narinfos(size: &Size, state: &mut State, client: usize) -> Option<()> {
    let Client { phase: Phase::Protected, open, missing, .. } = state.clients[client] else { return None };
    let keys = missing.within(size.narinfos);
    // db::uploads::lock
    if !open && size.holds(Rule::CommitLocksUpload) {
        end(state, client);
        return Some(());
    }
    let mine = state.rows_such_that(|row| row.writer.map(usize::from) == Some(client));
    // db::writers::lock
    let busy = state.rows_such_that(|row| !row.live && row.unsettled).without(mine);
    if size.holds(Rule::OneWriter) && !keys.within(busy).is_empty() {
        return None;
    }
    let deleting = state.rows_such_that(|row| row.deleting.is_some());
    let there = state.rows_such_that(|_| true);
    let there = if size.holds(Rule::CommitSeesDeleting) { there.without(deleting) } else { there };
    if !keys.without(there).is_empty() {
        // `Changed`, `BeingDeleted`
        fail(state, client);
        return Some(());
    }
    let live = state.rows_such_that(|row| row.live);
    let wanted = if size.holds(Rule::LiveIsNotWritten) { keys.without(live) } else { keys };
    // db::writers::claim
    for key in wanted.within(there).iter() {
        if let Some(row) = &mut state.rows[key] {
            row.writer = u8::try_from(client).ok();
            row.unsettled = size.holds(Rule::WriteSettles);
        }
    }
    let push = &mut state.clients[client];
    (push.phase, push.writing, push.written) = (Phase::Claimed, wanted.within(there), Keys::NONE);
    push.answered = mine.within(wanted).is_empty();
    Some(())
}

/// `send`: a narinfo is written, dependencies before dependents, and the bucket says so.
pub(crate) fn write(size: &Size, state: &mut State, client: usize, key: usize) -> Option<()> {
    let Client { phase: Phase::Claimed, writing, .. } = state.clients[client] else { return None };
    let refs = size.plans[client].refs[key];
    if !writing.contains(key) || !writing.within(refs).is_empty() {
        return None;
    }
    state.bucket[key] = Some(refs);
    state.clients[client].writing.remove(key);
    state.clients[client].written.insert(key);
    Some(())
}

/// No answer: the request may still act, at [`write_late`], and is sent again.
pub(crate) fn lose_write(state: &mut State, client: usize, key: usize) -> Option<()> {
    let push = &mut state.clients[client];
    if push.phase != Phase::Claimed || !push.writing.contains(key) {
        return None;
    }
    push.losses = push.losses.checked_sub(1)?;
    push.answered = false;
    state.late_writes[client].insert(key);
    Some(())
}

/// The server gives up, or dies, or only its client thinks so: whatever it claimed may still be written.
pub(crate) fn abandon(state: &mut State, client: usize) -> Option<()> {
    let push = &mut state.clients[client];
    if push.phase != Phase::Claimed {
        return None;
    }
    push.losses = push.losses.checked_sub(1)?;
    let writing = push.writing;
    state.late_writes[client] = state.late_writes[client].and(writing);
    fail(state, client);
    Some(())
}

/// A request without an answer acts after all.
pub(crate) fn write_late(size: &Size, state: &mut State, client: usize, key: usize) -> Option<()> {
    if !state.late_writes[client].contains(key) {
        return None;
    }
    state.late_writes[client].remove(key);
    state.bucket[key] = Some(size.plans[client].refs[key]);
    Some(())
}

/// `settles_at` passes: every request of the claim has happened or never will, and its server sends no more.
pub(crate) fn settle(size: &Size, state: &mut State, key: usize) -> Option<()> {
    let row = state.rows[key].as_mut()?;
    if !row.unsettled {
        return None;
    }
    row.unsettled = false;
    crate::resign::time_is_over(size, state, key);
    for client in 0..state.clients.len() {
        state.late_writes[client].remove(key);
        if state.clients[client].writing.contains(key) && size.holds(Rule::WriterSendsInTime) {
            fail(state, client);
        }
    }
    Some(())
}
