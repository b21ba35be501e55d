//! Sets of keys of the bucket.

use std::fmt;

/// Keys there are.
pub const KEYS: usize = 3;

/// A set of keys: bit `n` is key `n`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Keys(u8);

impl Keys {
    /// No key.
    pub const NONE: Self = Self(0);

    /// These keys.
    pub const fn of(keys: &[usize]) -> Self {
        let (mut bits, mut index) = (0, 0);
        while index < keys.len() {
            bits |= 1 << keys[index];
            index += 1;
        }
        Self(bits)
    }

    /// The keys that fulfil a condition.
    pub fn such_that(condition: impl Fn(usize) -> bool) -> Self {
        let mut keys = Self::NONE;
        for key in 0..KEYS {
            if condition(key) {
                keys.insert(key);
            }
        }
        keys
    }

    /// Whether a key is in it.
    pub const fn contains(self, key: usize) -> bool {
        self.0 & (1 << key) != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds a key.
    pub const fn insert(&mut self, key: usize) {
        self.0 |= 1 << key;
    }

    /// Takes a key away.
    pub const fn remove(&mut self, key: usize) {
        self.0 &= !(1 << key);
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What of this is also in the other.
    #[must_use]
    pub const fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What of this is not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Its keys.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..KEYS).filter(move |key| self.contains(*key))
    }

    /// What these keys reach, themselves included, where `refs` says what each refers to.
    #[must_use]
    pub fn reach(self, refs: impl Fn(usize) -> Self) -> Self {
        let mut reached = self;
        loop {
            let further = reached.iter().fold(reached, |all, key| all.and(refs(key)));
            if further == reached {
                return reached;
            }
            reached = further;
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
