//! What all compressed bytes in memory may add up to, and the buffers that hold them.
//!
//! Large buffers are used again rather than freed: the system's allocator keeps what each thread once used, and a
//! push of a gigabyte came to 300 MiB with parts freed by other threads than filled them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use niks3_protocol::api::pending_closures::PART_SIZE;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// In MiB. The encoders, the buffers of connections and the program itself come on top.
const LIMIT: u32 = 88;
/// Less than this is not worth a large buffer.
const SMALL: u64 = 1 << 20;
/// What zstd may add to bytes that do not compress.
const SLACK: u64 = 64 << 10;

/// Shared by all that compress. Whoever asks holds at most what is on its way to S3, and that goes on without more, so
/// somebody always goes on.
#[derive(Clone)]
pub(super) struct Memory {
    free: Arc<Semaphore>,
    spare: Arc<Mutex<Vec<BytesMut>>>,
}

/// A buffer to fill, and the memory that is held for it.
pub(super) struct Buffer {
    pub(super) bytes: BytesMut,
    held: Option<OwnedSemaphorePermit>,
}

/// A full buffer on its way to S3.
pub(super) struct Part {
    pub(super) bytes: Bytes,
    held: Option<OwnedSemaphorePermit>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(LIMIT as usize)), spare: Arc::default() }
    }

    /// Waits, on a thread that may block, for a buffer of so many bytes.
    pub(super) fn buffer(&self, size: u64) -> Buffer {
        let capacity = if size <= SMALL { size } else { size.max(PART_SIZE) } + SLACK;
        // Never more than there is, or it would be waited for forever.
        let mib = u32::try_from(capacity.div_ceil(1 << 20)).unwrap_or(LIMIT).min(LIMIT);
        let held = Handle::current().block_on(Arc::clone(&self.free).acquire_many_owned(mib)).ok();
        let spare = if size <= SMALL { None } else { self.lock().pop() };
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        let bytes = spare.filter(|spare| spare.capacity() >= capacity);
        Buffer { bytes: bytes.unwrap_or_else(|| BytesMut::with_capacity(capacity)), held }
    }

    /// Takes back what was sent.
    pub(super) fn take_back(&self, part: Part) {
        let Ok(mut bytes) = part.bytes.try_into_mut() else { return };
        bytes.clear();
        if bytes.capacity() as u64 > PART_SIZE {
            self.lock().push(bytes);
        }
        drop(part.held); // only now: whoever waits for it finds the buffer
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<BytesMut>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    pub(super) fn into_part(self) -> Part {
        Part { bytes: self.bytes.freeze(), held: self.held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_large_buffer_is_used_again() {
        let memory = Memory::new();
        let take = |size| {
            let memory = memory.clone();
            async move { tokio::task::spawn_blocking(move || memory.buffer(size)).await.unwrap() }
        };
        let mut buffer = take(PART_SIZE).await;
        assert_eq!(memory.free.available_permits(), 88 - 11);
        buffer.bytes.extend_from_slice(&[1; 1000]);
        let (place, part) = (buffer.bytes.as_ptr(), buffer.into_part());
        let sent = part.bytes.clone();
        assert_eq!(sent.len(), 1000);
        drop(sent);
        memory.take_back(part);
        assert_eq!(memory.free.available_permits(), 88);

        let again = take(2 << 20).await;
        assert!(again.bytes.is_empty() && again.bytes.as_ptr() == place);
        let small = take(10).await;
        assert_eq!(memory.free.available_permits(), 88 - 12);
        memory.take_back(small.into_part());
        assert!(memory.lock().is_empty(), "small ones are not kept");
        drop(again);
        drop(take(u64::from(LIMIT + 1) << 20).await);
        assert_eq!(memory.free.available_permits(), 88, "more than there is was waited for");
    }
}
