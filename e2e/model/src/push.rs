//! `server/src/push`: begin, the client's PUTs, complete; and `push::expire`.
//!
//! Each function is one transaction, or one look at the bucket. `None`: that cannot happen now.

use crate::keys::Keys;
use crate::rule::Rule;
use crate::size::{Plan, Puts, Size};
use crate::state::{Client, Phase, Row, State};

/// The first transaction of `begin`: `db::uploads::insert`.
pub(crate) fn insert_upload(size: &Size, state: &mut State, client: usize) -> Option<()> {
    let plan = &size.plans[client];
    let push = &mut state.clients[client];
    match push.phase {
        Phase::Idle if push.pushes > 0 => {
            push.phase = Phase::Inserted;
            push.keys = plan.keys;
            push.pushes -= 1;
            push.open = size.holds(Rule::BeginInTwo);
        }
        // In one transaction, its end makes the upload visible.
        Phase::Read => (push.phase, push.open) = (Phase::Begun, true),
        _ => return None,
    }
    Some(())
}

/// The second transaction of `begin`, `read_states`: once more while anything is being deleted.
pub(crate) fn read_states(size: &Size, state: &mut State, client: usize) -> Option<()> {
    let Client { phase: Phase::Inserted, keys, .. } = state.clients[client] else { return None };
    // db::objects::insert_expected
    for key in keys.iter() {
        state.rows[key].get_or_insert_default();
    }
    let condemned = state.rows_such_that(|row| row.condemned);
    let claimed = state.rows_such_that(|row| row.deleting.is_some());
    if size.holds(Rule::BeginLifts) {
        lift_condemnations(state, keys);
    }
    // db::objects::list_states
    let live = state.rows_such_that(|row| row.live);
    let deleting = keys.within(claimed);
    if size.holds(Rule::BeginWaits) && !deleting.is_empty() {
        return Some(());
    }
    let mut missing = keys.without(live);
    if !size.holds(Rule::ExpectedIsMissing) {
        missing = missing.without(condemned);
    }
    let push = &mut state.clients[client];
    // db::uploads::open
    push.missing = missing;
    push.phase = if push.open { Phase::Begun } else { Phase::Read };
    Some(())
}

/// `db::objects::lift_condemnations`
fn lift_condemnations(state: &mut State, keys: Keys) {
    let condemned = state.rows_such_that(|row| row.condemned && row.deleting.is_none());
    for key in keys.within(condemned).iter() {
        state.set_condemned(key, false);
    }
}

/// The client writes an object to the address it was given; there are none for narinfos.
pub(crate) fn put(size: &Size, state: &mut State, client: usize, key: usize) -> Option<()> {
    let Client { phase, missing, late, .. } = state.clients[client];
    let may = (phase == Phase::Begun && missing.contains(key)) || late.contains(key);
    if !may || size.narinfos.contains(key) || state.bucket[key].is_some() {
        return None;
    }
    state.bucket[key] = Some(size.plans[client].refs[key]);
    state.clients[client].late.remove(key);
    Some(())
}

/// `look`: outside any transaction, what was missing is looked for in the bucket.
pub(crate) fn look(size: &Size, state: &mut State, client: usize) -> Option<()> {
    let Client { phase: Phase::Begun, missing, .. } = state.clients[client] else { return None };
    let there = missing.without(size.narinfos).iter().all(|key| state.bucket[key].is_some());
    if size.holds(Rule::CommitLooks) && !there {
        return None;
    }
    let outside = !outside(&size.plans[client]).is_empty() && size.holds(Rule::CommitProtectsOutside);
    state.clients[client].phase = if outside { Phase::Looked } else { Phase::Protected };
    Some(())
}

fn outside(plan: &Plan) -> Keys {
    plan.keys.iter().fold(Keys::NONE, |all, key| all.and(plan.refs[key])).without(plan.keys)
}

/// `protect_outside`: what the plan refers to outside the upload becomes part of it.
pub(crate) fn protect_outside(size: &Size, state: &mut State, client: usize) -> Option<()> {
    let Client { phase: Phase::Looked, open, .. } = state.clients[client] else { return None };
    let plan = &size.plans[client];
    let outside = outside(plan);
    let present = state.rows_such_that(|_| true);
    let live = state.rows_such_that(|row| row.live);
    // db::objects::list_reachable, db::uploads::add_keys
    let reachable = outside.reach(|key| state.refs(key)).within(present);
    if !outside.without(present).is_empty() || !reachable.without(live).is_empty() {
        // `DanglingReference`
        fail(state, client);
        return Some(());
    }
    let push = &mut state.clients[client];
    push.phase = Phase::Protected;
    if open {
        push.keys = push.keys.and(reachable);
    }
    Some(())
}

/// The last transaction of `complete`: `commit_in`.
pub(crate) fn commit(size: &Size, state: &mut State, client: usize) -> Option<()> {
    let Client { phase: Phase::Claimed, open, keys, missing, writing, written, answered, .. } =
        state.clients[client]
    else {
        return None;
    };
    if !writing.is_empty() {
        return None;
    }
    // db::uploads::lock; gone is `UploadNotFound`, and the client begins again.
    if !open && size.holds(Rule::CommitLocksUpload) {
        end(state, client);
        return Some(());
    }
    let deleting = state.rows_such_that(|row| row.deleting.is_some());
    let seen = missing.without(size.narinfos).and(written).within(state.rows_such_that(|_| true));
    let mine = state.rows_such_that(|row| row.live || row.writer.map(usize::from) == Some(client));
    let mut good = state.rows_such_that(|row| row.live).and(seen);
    if size.holds(Rule::CommitSeesDeleting) {
        good = good.without(deleting);
    }
    if size.holds(Rule::CommitSeesWriter) {
        good = good.without(written.without(mine));
    }
    if !keys.without(good).is_empty() {
        // `Changed`, `BeingDeleted`, `BeingWritten`, `Lost`, `DanglingReference`
        fail(state, client);
        return Some(());
    }
    if size.holds(Rule::CommitLifts) {
        lift_condemnations(state, keys);
    }
    // db::objects::set_live
    let plan = &size.plans[client];
    let present = state.rows_such_that(|_| true);
    for key in seen.iter() {
        if size.holds(Rule::CommitLifts) {
            state.set_condemned(key, false);
        }
        if let Some(row) = &mut state.rows[key] {
            let own = row.writer.map(usize::from) == Some(client);
            let before = if row.live { row.refs } else { Keys::NONE };
            let settled = own && (answered || !size.holds(Rule::LostWriteStays));
            row.unsettled &= !settled;
            *row = Row { live: true, refs: before.and(plan.refs[key].within(present)), writer: None, ..*row };
        }
    }
    // db::closures::upsert, db::uploads::delete
    state.closures.insert(plan.root);
    end(state, client);
    if size.puts != Puts::InTime {
        state.clients[client].late = missing.without(size.narinfos);
    }
    Some(())
}

/// `db::uploads::delete_expired`, also what a begin does that gave up. A client with a request under way
/// learns of it from that.
pub(crate) fn expire_upload(size: &Size, state: &mut State, client: usize) -> Option<()> {
    let push = &mut state.clients[client];
    if !push.open {
        return None;
    }
    push.open = false;
    match push.phase {
        Phase::Looked | Phase::Protected | Phase::Claimed => {}
        // Its addresses may still be written to.
        Phase::Begun if !size.holds(Rule::UploadOutlivesAddresses) => {}
        _ => end(state, client),
    }
    Some(())
}

/// `gc::delete` with `--force` (rule 12): an upload goes while its addresses live, so what its client still sends may
/// arrive at any time. The rest of a deletion is closures that go and a run with two marks, of which a claim may pass
/// over whatever it likes.
pub(crate) fn end_upload(size: &Size, state: &mut State, client: usize) -> Option<()> {
    if size.puts != Puts::AfterDeletion {
        return None;
    }
    let late = state.clients[client].missing.without(size.narinfos);
    expire_upload(size, state, client)?;
    state.clients[client].late = late;
    Some(())
}

/// `db::closures::delete_old`
pub(crate) fn expire_closure(state: &mut State, key: usize) -> Option<()> {
    state.closures.contains(key).then(|| state.closures.remove(key))
}

/// Nothing was committed; while its upload is there, the client may complete again.
pub(crate) fn fail(state: &mut State, client: usize) {
    let push = &mut state.clients[client];
    if push.open {
        push.phase = Phase::Begun;
        (push.writing, push.written, push.answered) = (Keys::NONE, Keys::NONE, false);
    } else {
        end(state, client);
    }
}

/// The upload is no more; a later one of that client has another id. What is under way stays so.
pub(crate) fn end(state: &mut State, client: usize) {
    let Client { pushes, losses, late, .. } = state.clients[client];
    state.clients[client] = Client { late, losses, pushes, ..Client::default() };
    for row in state.rows.iter_mut().flatten() {
        row.writer = row.writer.filter(|writer| usize::from(*writer) != client);
    }
}
