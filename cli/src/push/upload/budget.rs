//! What the encoders of zstd may take together: at high levels one takes far more than what it compresses.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// In MiB. One encoder that takes more runs alone.
const LIMIT: u32 = 64;
/// Encoders up to this size, in MiB, are as many as there are cores: those of the default level.
const SMALL: u32 = 4;
/// What a thread of zstd's own takes beside its encoder, in MiB: what it reads and what it writes.
const PER_WORKER: u32 = 8;
/// What zstd gathers for such threads, in MiB.
const GATHERED: u32 = 12;

/// By level, the logarithms of zstd's window, chain table and hash table (`clevels.h` of zstd 1.5; its own estimate is
/// not in the stable interface). A test compares them with what encoders take.
const SIZES: [[u32; 3]; 19] = [
    [19, 13, 14],
    [20, 15, 16],
    [21, 16, 17],
    [21, 18, 18],
    [21, 18, 19],
    [21, 18, 19],
    [21, 19, 20],
    [21, 19, 20],
    [22, 20, 21],
    [22, 21, 22],
    [22, 21, 22],
    [22, 22, 23],
    [22, 22, 22],
    [22, 22, 23],
    [22, 23, 23],
    [22, 22, 22],
    [23, 23, 22],
    [23, 23, 22],
    [23, 24, 22],
];

/// What an encoder takes for so many bytes, in MiB; of which nobody knows how many, as for the largest.
fn cost(level: i32, size: Option<u64>) -> u32 {
    let index = usize::try_from(level - 1).unwrap_or(0).min(SIZES.len() - 1);
    let [window, chain, hash] = SIZES[index];
    // zstd takes no larger window than there are bytes, and no larger tables than go with it.
    let needed = size.map_or(u32::MAX, |size| u64::BITS - size.max(1).leading_zeros());
    let window = window.min(needed);
    let (chain, hash) = (chain.min(window + 1), hash.min(window + 1));
    // Four bytes an entry, and a byte for the tags of the middle levels.
    let bytes = (1_u64 << window) + (4 << chain) + (5 << hash);
    u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(LIMIT) + 1
}

/// On how many threads of zstd's own a giant is compressed; one alone is none. The same for a level on every machine
/// with enough cores, as the bytes depend on whether there are any.
pub(super) fn workers(level: i32, jobs: usize) -> Option<u32> {
    let (cost, jobs) = (cost(level, None), u32::try_from(jobs).unwrap_or(u32::MAX));
    let fit = if cost <= SMALL { jobs } else { (LIMIT - GATHERED) / (cost + PER_WORKER) };
    Some(fit.min(jobs)).filter(|workers| *workers > 1)
}

/// Shared by all that compress.
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LIMIT as usize)))
    }

    /// Waits for room for an encoder of so many bytes; where it is spread over cores and where nobody knows how many
    /// bytes there are, for all there is. Nothing holds room and waits for another's.
    pub(super) async fn room(&self, level: i32, size: Option<u64>) -> Option<OwnedSemaphorePermit> {
        if cost(level, None) <= SMALL {
            return None;
        }
        let mib = size.map_or(LIMIT, |size| cost(level, Some(size)).min(LIMIT));
        Arc::clone(&self.0).acquire_many_owned(mib).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::push::upload::encoder::Contexts;

    #[test]
    fn an_encoder_takes_no_more_than_is_counted() {
        for level in 1..=19 {
            for size in [1, 1000, 100_000, 300_000, 3 << 20, 20 << 20, 1 << 30] {
                let mut encoder = Contexts::default().encoder(Vec::new(), level, size, None).unwrap();
                encoder.write_all(b"x").unwrap();
                let (taken, counted) =
                    (encoder.context.sizeof() as u64, u64::from(cost(level, Some(size))) << 20);
                assert!(taken <= counted, "level {level}, {size} bytes: {taken}, counted {counted}");
                assert!(
                    counted <= 2 * taken + (3 << 20),
                    "level {level}, {size} bytes: {taken} of {counted}"
                );
            }
        }
    }

    #[tokio::test]
    async fn what_is_too_large_runs_alone_and_the_default_level_waits_for_nobody() {
        let budget = Budget::new();
        assert!(cost(19, None) > LIMIT);
        let alone = budget.room(19, None).await;
        assert_eq!((alone.is_some(), budget.0.available_permits()), (true, 0));
        assert!(budget.room(3, None).await.is_none());
        drop(alone);
        let some = [budget.room(9, Some(1 << 30)).await, budget.room(9, Some(1 << 30)).await];
        assert!(some.iter().all(Option::is_some));
        assert_eq!([workers(3, 16), workers(3, 1), workers(19, 16)], [Some(16), None, None]);
    }
}
