//! What all compressed bytes in memory may add up to.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// In MiB. The encoders, the buffers of connections and the program itself come on top.
const LIMIT: u32 = 80;

/// Shared by all that compress. Whoever asks holds none yet, so somebody always goes on.
#[derive(Clone)]
pub(super) struct Memory(Arc<Semaphore>);

/// Some of it; given back when it is dropped.
pub(super) struct Held(Option<OwnedSemaphorePermit>);

impl Memory {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LIMIT as usize)))
    }

    /// Waits, on a thread that may block, until so many bytes may be held.
    pub(super) fn hold(&self, bytes: u64) -> Held {
        Held(Handle::current().block_on(Arc::clone(&self.0).acquire_many_owned(mib(bytes))).ok())
    }
}

impl Held {
    /// Gives back all but so many bytes.
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        if let Some(permit) = &mut self.0 {
            let surplus = permit.num_permits().saturating_sub(mib(bytes) as usize);
            drop(permit.split(surplus));
        }
    }
}

/// Never more than there is, or it would be waited for forever.
fn mib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(LIMIT).clamp(1, LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_held_is_given_back() {
        let memory = Memory::new();
        let inner = Arc::clone(&memory.0);
        let hold = move |bytes| {
            let memory = memory.clone();
            tokio::task::spawn_blocking(move || memory.hold(bytes))
        };
        let mut held = hold(u64::MAX).await.unwrap();
        assert_eq!(inner.available_permits(), 0);
        held.shrink_to(5 << 20);
        assert_eq!(inner.available_permits(), 75);
        let other = hold(1).await.unwrap();
        assert_eq!(inner.available_permits(), 74);
        drop((held, other));
        assert_eq!(inner.available_permits(), 80);
    }
}
