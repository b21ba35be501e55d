//! Sets of indexes.

/// A set of indexes; it grows as they come.
#[derive(Debug, Clone, Default)]
pub(super) struct BitSet(Vec<u64>);

impl BitSet {
    pub(super) fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    pub(super) fn contains(&self, index: u32) -> bool {
        self.0.get(index as usize / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// Adds an index; whether it is new.
    pub(super) fn insert(&mut self, index: u32) -> bool {
        let (place, bit) = (index as usize / 64, 1 << (index % 64));
        if place >= self.0.len() {
            self.0.resize(place + 1, 0);
        }
        let word = &mut self.0[place];
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    pub(super) fn remove(&mut self, index: u32) {
        if let Some(word) = self.0.get_mut(index as usize / 64) {
            *word &= !(1 << (index % 64));
        }
    }
}
