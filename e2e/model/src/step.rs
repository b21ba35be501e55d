//! What may happen next.

use crate::keys::KEYS;
use crate::size::Size;
use crate::state::{CLIENTS, COLLECTORS, State};
use crate::{collect, push, resign, write};

/// A step, named as the function of the server that takes it. Numbers: who, then which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `begin`, first transaction
    InsertUpload(usize),
    /// `begin`, second transaction
    ReadStates(usize),
    /// The client writes an object.
    Put(usize, usize),
    /// `complete`, before its transactions
    Look(usize),
    /// `complete`, first transaction
    ProtectOutside(usize),
    /// `narinfos::try_claim`
    ClaimNarinfos(usize),
    /// A narinfo is written.
    Write(usize, usize),
    /// A write has no answer.
    LoseWrite(usize, usize),
    /// A write without an answer acts after all.
    WriteLate(usize, usize),
    /// `complete` gives up, or its server dies.
    Abandon(usize),
    /// `settles_at` passes.
    Settle(usize),
    /// `complete`, last transaction
    Commit(usize),
    /// `resign::list_after`
    ReadAgain(usize),
    /// `resign::claim`
    ClaimAgain,
    /// A narinfo is written anew.
    WriteAgain,
    /// That has no answer.
    LoseWriteAgain,
    /// Its server dies.
    AbandonAgain,
    /// That write acts after all.
    WriteAgainLate(usize),
    /// `resign::settle`
    SettleAgain,
    /// `uploads::delete_expired`
    ExpireUpload(usize),
    /// `delete::run` with `--force`
    EndUpload(usize),
    /// `closures::delete_old`
    ExpireClosure(usize),
    /// `mark::read`
    Mark(usize),
    /// `marks::uncondemn` and `marks::condemn`
    Condemn(usize),
    /// `marks::claim`
    Claim(usize, usize),
    /// `marks::take_over`
    TakeOver(usize, usize),
    /// `Deletion::Confirmed`
    Confirm(usize, usize),
    /// `Deletion::Refused` and `marks::give_back`
    Refuse(usize, usize),
    /// `Deletion::Unknown`
    LoseAnswer(usize, usize),
    /// A delete without an answer acts after all.
    ActLate(usize),
    /// `marks::remove`
    Remove(usize, usize),
    /// The collector's server dies.
    Crash(usize),
}

/// Steps of somebody.
const OF_CLIENT: [fn(usize) -> Step; 9] = [
    Step::InsertUpload,
    Step::ReadStates,
    Step::Look,
    Step::ProtectOutside,
    Step::ClaimNarinfos,
    Step::Abandon,
    Step::Commit,
    Step::ExpireUpload,
    Step::EndUpload,
];
const OF_COLLECTOR: [fn(usize) -> Step; 3] = [Step::Mark, Step::Condemn, Step::Crash];
/// Steps of a client, or its server, with a key.
const WRITES: [fn(usize, usize) -> Step; 4] = [Step::Put, Step::Write, Step::LoseWrite, Step::WriteLate];
/// Steps of a collector with a key.
const WITH_KEY: [fn(usize, usize) -> Step; 6] =
    [Step::Claim, Step::TakeOver, Step::Confirm, Step::Refuse, Step::LoseAnswer, Step::Remove];

impl Step {
    /// Every step there is.
    pub fn all() -> impl Iterator<Item = Self> {
        let clients = (0..CLIENTS).flat_map(|client| {
            let writes = (0..KEYS).flat_map(move |key| WRITES.iter().map(move |step| step(client, key)));
            OF_CLIENT.iter().map(move |step| step(client)).chain(writes)
        });
        let collectors = (0..COLLECTORS).flat_map(|by| {
            let with_key = (0..KEYS).flat_map(move |key| WITH_KEY.iter().map(move |step| step(by, key)));
            OF_COLLECTOR.iter().map(move |step| step(by)).chain(with_key)
        });
        let keys =
            (0..KEYS).flat_map(|key| [Self::ExpireClosure(key), Self::ActLate(key), Self::Settle(key)]);
        let again = (0..KEYS).flat_map(|key| [Self::ReadAgain(key), Self::WriteAgainLate(key)]);
        let resigner =
            [Self::ClaimAgain, Self::WriteAgain, Self::LoseWriteAgain, Self::AbandonAgain, Self::SettleAgain];
        clients.chain(collectors).chain(keys).chain(again).chain(resigner)
    }

    /// The state after it, where it can happen and changes something.
    pub fn take(self, size: &Size, before: &State) -> Option<State> {
        let mut state = *before;
        match self {
            Self::InsertUpload(client) => push::insert_upload(size, &mut state, client),
            Self::ReadStates(client) => push::read_states(size, &mut state, client),
            Self::Put(client, key) => push::put(size, &mut state, client, key),
            Self::Look(client) => push::look(size, &mut state, client),
            Self::ProtectOutside(client) => push::protect_outside(size, &mut state, client),
            Self::ClaimNarinfos(client) => write::claim_narinfos(size, &mut state, client),
            Self::Write(client, key) => write::write(size, &mut state, client, key),
            Self::LoseWrite(client, key) => write::lose_write(&mut state, client, key),
            Self::WriteLate(client, key) => write::write_late(size, &mut state, client, key),
            Self::Abandon(client) => write::abandon(&mut state, client),
            Self::Settle(key) => write::settle(size, &mut state, key),
            Self::Commit(client) => push::commit(size, &mut state, client),
            Self::ReadAgain(key) => resign::read(size, &mut state, key),
            Self::ClaimAgain => resign::claim(size, &mut state),
            Self::WriteAgain => resign::write(&mut state),
            Self::LoseWriteAgain => resign::lose_write(&mut state),
            Self::AbandonAgain => resign::abandon(&mut state),
            Self::WriteAgainLate(key) => resign::write_late(&mut state, key),
            Self::SettleAgain => resign::settle(size, &mut state),
            Self::ExpireUpload(client) => push::expire_upload(size, &mut state, client),
            Self::EndUpload(client) => push::end_upload(size, &mut state, client),
            Self::ExpireClosure(key) => push::expire_closure(&mut state, key),
            Self::Mark(by) => collect::mark(size, &mut state, by),
            Self::Condemn(by) => collect::condemn(size, &mut state, by),
            Self::Claim(by, key) => collect::claim(size, &mut state, by, key),
            Self::TakeOver(by, key) => collect::take_over(size, &mut state, by, key),
            Self::Confirm(by, key) => collect::confirm(&mut state, by, key),
            Self::Refuse(by, key) => collect::refuse(size, &mut state, by, key),
            Self::LoseAnswer(by, key) => collect::lose_answer(size, &mut state, by, key),
            Self::ActLate(key) => collect::act_late(&mut state, key),
            Self::Remove(by, key) => collect::remove(size, &mut state, by, key),
            Self::Crash(by) => collect::crash(&mut state, by),
        }?;
        collect::tidy(size, &mut state);
        (state != *before).then_some(state)
    }
}
