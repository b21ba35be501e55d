//! Computing on all cores, a piece at a time, what a call with ten thousand objects computes ten thousand times.

use std::thread;

use futures::{Stream, StreamExt as _, stream};
use tokio::task::JoinError;

/// Items of a piece: a millisecond or a few, and some hundred kilobytes.
const PIECE: usize = 256;

/// What `make` makes of the items, in order: of all pieces, by number, but only as many at a time as there are cores,
/// and one that is done and waits to be taken. None of it is done on a thread that serves others.
pub fn pieces<T: Send + 'static, R: Send + 'static>(
    items: Vec<T>,
    make: impl Fn(usize, Vec<T>) -> R + Clone + Send + 'static,
) -> impl Stream<Item = Result<R, JoinError>> + Send {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let started = stream::iter(items).chunks(PIECE).enumerate().map(move |(number, piece)| {
        let make = make.clone();
        tokio::task::spawn_blocking(move || make(number, piece))
    });
    started.buffered(cores + 1)
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn each_is_made_once_and_in_order() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 10_000] {
            let items: Vec<usize> = (0..length).collect();
            let made = pieces(items.clone(), |number, piece| {
                assert!(piece[0] == number * PIECE && piece.len() <= PIECE, "{number}: {piece:?}");
                piece
            });
            let made: Vec<Vec<usize>> = made.try_collect().await.unwrap();
            assert_eq!(made.concat(), items);
        }
    }
}
