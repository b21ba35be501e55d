//! Computing on all cores what a call with ten thousand objects computes ten thousand times.

use std::thread;

/// Fewer are done where they are: a thread takes some ten microseconds to start.
const WORTH_A_THREAD: usize = 512;

/// `f` of each, in order. It blocks the thread that calls it: for what takes milliseconds, not seconds.
pub fn map<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(items.len() / WORTH_A_THREAD).max(1);
    let mut chunks = items.chunks(items.len().div_ceil(threads).max(1));
    let own = chunks.next().unwrap_or_default();
    thread::scope(|scope| {
        let f = &f;
        let others: Vec<_> =
            chunks.map(|chunk| scope.spawn(move || chunk.iter().map(f).collect::<Vec<R>>())).collect();
        let mut results: Vec<R> = own.iter().map(f).collect();
        for other in others {
            match other.join() {
                Ok(more) => results.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_done_once_and_in_order() {
        for length in [0, 1, 511, 512, 1023, 1024, 1025, 10_000] {
            let items: Vec<usize> = (0..length).collect();
            assert_eq!(map(&items, |item| item * 2), (0..length).map(|item| item * 2).collect::<Vec<_>>());
        }
    }
}
