//! What always holds, and what must happen at least once lest the rest proves nothing.

use stateright::Property;

use crate::keys::{KEYS, Keys};
use crate::resign::Resigner;
use crate::size::Size;
use crate::state::{CLIENTS, COLLECTORS, Client, Delete, Phase, State};
use crate::step::Step;

/// The promise of docs/gc.md.
pub const PROMISE: &str = "whatever a committed closure reaches is in the bucket";
/// What a client was not asked for stays while its upload is open.
pub const NOT_MISSING: &str = "an open upload's not-missing objects stay";
/// A live object is as good as a committed one: a push builds on it without looking.
pub const LIVE: &str = "what a live object refers to is live";
/// A narinfo a commit has seen leads a reader nowhere where nothing is.
pub const READER: &str = "a reader meets no narinfo without what it points to";
/// So a collection finds it.
pub const HAS_ROW: &str = "what is in the bucket has a row";
/// Wherever pushes, crashes and lost answers have led.
pub const GOES: &str = "once nothing is wanted, everything goes";

pub(crate) fn properties() -> Vec<Property<Size>> {
    vec![
        Property::always(PROMISE, |_, state| promise(state)),
        Property::always(NOT_MISSING, not_missing_stays),
        Property::always(LIVE, |_, state| live_leads_to_live(state)),
        Property::always(READER, |_, state| reader(state)),
        Property::always(HAS_ROW, |_, state: &State| {
            state.rows.iter().zip(&state.bucket).all(|(row, object)| row.is_some() || object.is_none())
        }),
        Property::always(GOES, everything_goes),
        Property::sometimes("a closure is committed", |_, state: &State| !state.closures.is_empty()),
        Property::sometimes("all closures are committed at once", |size: &Size, state: &State| {
            size.plans.iter().all(|plan| state.closures.contains(plan.root))
        }),
        Property::sometimes("a live object is deleted", |_, state: &State| {
            state.rows.iter().zip(&state.bucket).any(|(row, object)| {
                object.is_none() && row.is_some_and(|row| row.live && row.deleting.is_some())
            })
        }),
        Property::sometimes("a begin meets a condemned object that is live", |_, state: &State| {
            let condemned = state.rows_such_that(|row| row.live && row.condemned && row.deleting.is_none());
            let mut begins = state.clients.iter().filter(|client| client.phase == Phase::Inserted);
            begins.any(|client| !client.keys.within(condemned).is_empty())
        }),
        Property::sometimes("a begin meets an object being deleted", |_, state: &State| {
            let deleting = state.rows_such_that(|row| row.deleting.is_some());
            let mut begins = state.clients.iter().filter(|client| client.phase == Phase::Inserted);
            begins.any(|client| !client.keys.within(deleting).is_empty())
        }),
        Property::sometimes("a condemned object is committed", |_, state: &State| {
            let condemned = state.rows_such_that(|row| row.condemned && row.deleting.is_none());
            !state.closures.reach(|key| state.refs(key)).within(condemned).is_empty()
        }),
        Property::sometimes("a delete whose answer was lost has not yet acted", |_, state: &State| {
            state.outstanding.iter().zip(&state.bucket).any(|(late, object)| *late > 0 && object.is_some())
        }),
        Property::sometimes("a key is claimed that its claimer no longer waits for", |_, state: &State| {
            state.rows.iter().enumerate().any(|(key, row)| {
                let by = row.and_then(|row| row.deleting);
                by.is_some_and(|by| state.collectors[usize::from(by)].deletes[key] == Delete::None)
            })
        }),
        Property::sometimes(
            "a commit waits for another that writes the same narinfo",
            |size: &Size, state: &State| {
                state.clients.iter().enumerate().any(|(client, push)| {
                    let others = state.rows_such_that(|row| {
                        row.unsettled
                            && !row.live
                            && row.writer.is_some_and(|writer| usize::from(writer) != client)
                    });
                    push.phase == Phase::Protected
                        && !push.missing.within(size.narinfos).within(others).is_empty()
                })
            },
        ),
        Property::sometimes("after pushes all is gone", |_, state: &State| {
            state.clients.iter().all(|client| client.pushes == 0 && client.phase == Phase::Idle)
                && state.rows.iter().all(Option::is_none)
                && state.collectors.iter().any(|collector| collector.marks == 0)
        }),
    ]
}

/// What a reader needs of these keys: it follows what the narinfos in the bucket say.
fn readable(state: &State, keys: Keys) -> bool {
    let needed = keys.reach(|key| state.bucket[key].unwrap_or_default());
    needed.iter().all(|key| state.bucket[key].is_some())
}

fn promise(state: &State) -> bool {
    readable(state, state.closures)
}

fn reader(state: &State) -> bool {
    let committed = state.rows_such_that(|row| row.live);
    committed.iter().filter(|key| state.bucket[*key].is_some()).all(|key| readable(state, Keys::of(&[key])))
}

fn good(state: &State, key: usize) -> bool {
    state.bucket[key].is_some() && state.rows[key].is_some_and(|row| row.live && row.deleting.is_none())
}

fn not_missing_stays(size: &Size, state: &State) -> bool {
    size.plans.iter().zip(&state.clients).all(|(plan, client)| {
        let begun = matches!(client.phase, Phase::Begun | Phase::Looked | Phase::Protected | Phase::Claimed);
        !begun || !client.open || plan.keys.without(client.missing).iter().all(|key| good(state, key))
    })
}

fn live_leads_to_live(state: &State) -> bool {
    let live = state.rows_such_that(|row| row.live && row.deleting.is_none());
    live.iter().all(|key| {
        let refs = state.bucket[key].unwrap_or_default();
        state.bucket[key].is_some() && refs.iter().all(|to| good(state, to))
    })
}

/// Closures and uploads expire, what was written settles, every sweeper dies, and one more run goes to its end.
fn everything_goes(size: &Size, state: &State) -> bool {
    let mut end = *state;
    end.closures = Keys::NONE;
    end.clients = [Client::default(); CLIENTS];
    end.late_writes = [Keys::NONE; CLIENTS];
    end.late_resigns = [None; KEYS];
    end.resigner = Resigner::default();
    for collector in &mut end.collectors {
        (collector.crashes, collector.marks) = (1, 2);
    }
    for row in end.rows.iter_mut().flatten() {
        (row.writer, row.unsettled) = (None, false);
    }
    let dead = (0..COLLECTORS).map(Step::Crash);
    let taken =
        (0..KEYS).flat_map(|key| [Step::TakeOver(0, key), Step::Confirm(0, key), Step::Remove(0, key)]);
    let marks = (0..2).flat_map(|_| std::iter::once(Step::Mark(0)).chain([Step::Condemn(0); KEYS]));
    // Dependents first, whatever their order: so often as there are keys.
    let swept = (0..KEYS * KEYS).flat_map(|turn| {
        let key = turn % KEYS;
        [Step::Claim(0, key), Step::Confirm(0, key), Step::Remove(0, key)]
    });
    for step in dead.chain(taken).chain(marks).chain(swept) {
        if let Some(next) = step.take(size, &end) {
            end = next;
        }
    }
    end.rows.iter().all(Option::is_none) && end.bucket.iter().all(Option::is_none)
}
