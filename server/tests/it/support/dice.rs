//! Choices that follow from a seed.

use std::time::Duration;

/// `splitmix64`.
#[derive(Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice that differ for each number, and are the same for the same seed.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut dice = Self(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        dice.roll(1);
        dice
    }

    /// From 0 to one less than `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    /// An index into something of this length.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.roll(len as u64)).unwrap()
    }

    /// Waits for less than so long.
    pub(crate) async fn pause(&mut self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(self.roll(millis))).await;
    }
}
