//! How much the checker goes through, and which rules hold meanwhile.

use crate::keys::{KEYS, Keys};
use crate::rule::Rule;
use crate::state::CLIENTS;

/// `A.narinfo`, which refers to [`D`] where a closure has both.
pub const A: usize = 0;
/// `D.narinfo`, a dependency; or a second NAR.
pub const D: usize = 1;
/// `nar/X`
pub const X: usize = 2;

/// The body of a begin: what one client pushes.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The closure's key.
    pub root: usize,
    /// The objects.
    pub keys: Keys,
    /// What each refers to.
    pub refs: [Keys; KEYS],
}

impl Plan {
    /// `A.narinfo`, its dependency, and the NAR.
    pub const WHOLE: Self = Self { root: A, keys: Keys::of(&[A, D, X]), refs: CHAIN };
    /// The dependency with its NAR.
    pub const DEPENDENCY: Self = Self { root: D, keys: Keys::of(&[D, X]), refs: CHAIN };
    /// `A.narinfo` alone: its dependency is to be there already.
    pub const TOP: Self = Self { root: A, keys: Keys::of(&[A]), refs: CHAIN };
    /// A build of `A` whose NAR is `X`.
    pub const BUILD: Self =
        Self { root: A, keys: Keys::of(&[A, X]), refs: [Keys::of(&[X]), Keys::NONE, Keys::NONE] };
    /// Another build of `A`, whose NAR differs.
    pub const REBUILD: Self =
        Self { root: A, keys: Keys::of(&[A, D]), refs: [Keys::of(&[D]), Keys::NONE, Keys::NONE] };
}

const CHAIN: [Keys; KEYS] = [Keys::of(&[D]), Keys::of(&[X]), Keys::NONE];

/// When a PUT of a client may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Puts {
    /// Before its upload goes.
    InTime,
    /// After its upload was committed, too.
    AfterCommit,
    /// That, and after its upload was ended while its addresses live: paths are deleted at once, with `--force`.
    AfterDeletion,
}

/// What happens at most, and by which rules.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// What each client pushes.
    pub plans: [Plan; CLIENTS],
    /// Which keys are narinfos.
    pub narinfos: Keys,
    /// Pushes each client begins.
    pub pushes: [u8; CLIENTS],
    /// Marks each collector makes: two are a run with `force`.
    pub marks: [u8; 2],
    /// Times each collector dies.
    pub crashes: [u8; 2],
    /// Answers to each server's writes of narinfos that are lost.
    pub losses: [u8; CLIENTS],
    /// Narinfos that are signed again.
    pub resigns: u8,
    /// Answers to writes of those that are lost.
    pub resign_losses: u8,
    /// When a PUT may act.
    pub puts: Puts,
    /// A mark writes object after object, and others come between.
    pub batches: bool,
    /// States that differ only in which collector is which are one. Not for reading a counterexample.
    pub symmetric: bool,
    /// The rule that is switched off.
    pub off: Option<Rule>,
}

impl Size {
    /// Two closures that overlap, each pushed once, and two collections, with `force` too: two marks each.
    pub const FIRST: Self = Self {
        plans: [Plan::WHOLE, Plan::DEPENDENCY],
        narinfos: Keys::of(&[A, D]),
        pushes: [1, 1],
        marks: [2, 2],
        crashes: [0, 0],
        losses: [0, 0],
        resigns: 0,
        resign_losses: 0,
        puts: Puts::InTime,
        batches: false,
        symmetric: true,
        off: None,
    };

    /// The same with other closures.
    #[must_use]
    pub const fn pushing(self, first: Plan, second: Plan) -> Self {
        Self { plans: [first, second], ..self }
    }

    /// Two builds of `A` with a NAR each: two clients bring different narinfos of one path. One collection, and
    /// answers to writes are lost.
    pub const BUILDS: Self = Self {
        plans: [Plan::BUILD, Plan::REBUILD],
        narinfos: Keys::of(&[A]),
        marks: [2, 0],
        losses: [1, 1],
        symmetric: false,
        ..Self::FIRST
    };

    /// The same, where a narinfo is signed again, and an answer to that is lost.
    pub const RESIGNS: Self = Self { losses: [1, 0], resigns: 1, resign_losses: 1, ..Self::BUILDS };

    /// The same without a rule, and with collectors one can tell apart.
    #[must_use]
    pub const fn without(self, rule: Rule) -> Self {
        Self { off: Some(rule), symmetric: false, ..self }
    }

    /// Whether a rule holds.
    pub fn holds(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }
}
