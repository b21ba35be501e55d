//! What PostgreSQL, the bucket, the clients and the collectors know at one moment.

use crate::keys::{KEYS, Keys};
use crate::resign::Resigner;

/// Uploads open at a time.
pub(crate) const CLIENTS: usize = 2;
/// Collections at a time: the lock of rule 9 is an economy, so the model has none.
pub(crate) const COLLECTORS: usize = 2;

/// A row of `objects`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Row {
    /// `live`: a commit has seen it in the bucket.
    pub live: bool,
    /// `condemned_at` is set. When that was is kept by [`Collector::since`].
    pub condemned: bool,
    /// `deleting_by`: the collector that claimed it.
    pub deleting: Option<u8>,
    /// `refs`. A reference is a row's id, so it does not survive that row.
    pub refs: Keys,
    /// `writing_by`: the client whose open upload may write it.
    pub writer: Option<u8>,
    /// `settles_at` is not past: a request to write it may be under way.
    pub unsettled: bool,
}

/// How far a push is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Phase {
    /// Nothing is pushed.
    #[default]
    Idle,
    /// `begin` has written the upload and not yet read the states.
    Inserted,
    /// States are read, the upload is not yet visible: only with [`crate::Rule::BeginInTwo`] off.
    Read,
    /// `begin` answered: the client has addresses.
    Begun,
    /// `complete` found all that was missing in the bucket.
    Looked,
    /// `complete` has made what the plan refers to outside the upload part of it.
    Protected,
    /// `complete` has claimed the missing narinfos, and writes them.
    Claimed,
}

/// A client, the request it has at a server, and its row of `uploads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Client {
    /// How far it is.
    pub phase: Phase,
    /// The row of `uploads` is there.
    pub open: bool,
    /// `uploads.keys`
    pub keys: Keys,
    /// `uploads.missing`
    pub missing: Keys,
    /// Narinfos that `complete` claimed and has still to write.
    pub writing: Keys,
    /// Those it has written.
    pub written: Keys,
    /// Nothing it sent is under way any more: it claimed for the first time, and every request was answered.
    pub answered: bool,
    /// Its addresses can still be written to after the commit: only where a size allows that.
    pub late: Keys,
    /// Answers to its server's writes that may still be lost.
    pub losses: u8,
    /// Pushes it may still begin.
    pub pushes: u8,
}

/// What a collector knows of its own delete of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Delete {
    /// It sent none, or no longer waits.
    #[default]
    None,
    /// Claimed, and sent or about to be.
    Sent,
    /// `Deletion::Confirmed`; the row is not yet removed.
    Confirmed,
}

/// A collection, and its `Mark` once the snapshot is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Collector {
    /// It has a mark.
    pub marked: bool,
    /// Objects that the snapshot's roots do not reach, and that it has still to condemn.
    pub condemn: Keys,
    /// Reached ones whose condemnation it has still to lift.
    pub uncondemn: Keys,
    /// Unreached ones condemned in the snapshot.
    pub candidates: Keys,
    /// Those still condemned since exactly then. A time never comes back: once lifted, always out.
    pub since: Keys,
    /// For each key, the unreached objects that lead to it in the snapshot and are not yet confirmed deleted.
    pub referrers: [Keys; KEYS],
    /// Its deletes.
    pub deletes: [Delete; KEYS],
    /// Marks it may still make.
    pub marks: u8,
    /// Times it may still die.
    pub crashes: u8,
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// `objects`
    pub rows: [Option<Row>; KEYS],
    /// The bucket: what each object there refers to.
    pub bucket: [Option<Keys>; KEYS],
    /// Deletes whose answer was lost and that may yet act.
    pub outstanding: [u8; KEYS],
    /// Writes of narinfos for each client that may yet act.
    pub late_writes: [Keys; CLIENTS],
    /// The same for the server that signs again, and what they say.
    pub late_resigns: [Option<Keys>; KEYS],
    /// The server that signs again.
    pub resigner: Resigner,
    /// `closures`
    pub closures: Keys,
    /// Pushes.
    pub clients: [Client; CLIENTS],
    /// Collections.
    pub collectors: [Collector; COLLECTORS],
}

impl State {
    /// What the row of a key refers to.
    pub fn refs(&self, key: usize) -> Keys {
        self.rows[key].map_or(Keys::NONE, |row| row.refs)
    }

    /// Keys whose row fulfils a condition.
    pub fn rows_such_that(&self, condition: impl Fn(&Row) -> bool) -> Keys {
        Keys::such_that(|key| self.rows[key].as_ref().is_some_and(&condition))
    }

    /// Sets or clears `condemned_at`: whoever remembers the time before remembers a wrong one now.
    pub fn set_condemned(&mut self, key: usize, condemned: bool) {
        if let Some(row) = &mut self.rows[key] {
            row.condemned = condemned;
        }
        for collector in &mut self.collectors {
            collector.since.remove(key);
        }
    }

    /// Deletes a row. Marks and references know rows by their ids, so a later row of that key is not theirs.
    pub fn remove_row(&mut self, key: usize) {
        self.rows[key] = None;
        self.resigner.holds &= self.resigner.key != key;
        for row in self.rows.iter_mut().flatten() {
            row.refs.remove(key);
        }
        for collector in &mut self.collectors {
            for keys in [
                &mut collector.condemn,
                &mut collector.uncondemn,
                &mut collector.candidates,
                &mut collector.since,
            ] {
                keys.remove(key);
            }
        }
    }

    /// The same state with the collectors in order: which of them is which makes no difference.
    #[must_use]
    pub fn representative(&self) -> Self {
        let mut state = *self;
        if state.collectors[0] > state.collectors[1] {
            state.collectors.swap(0, 1);
            for row in state.rows.iter_mut().flatten() {
                row.deleting = row.deleting.map(|by| 1 - by);
            }
        }
        state
    }
}
