//! Narinfos that were read a moment ago, in memory: where a fleet starts, all of it asks for the same ones at once.
//!
//! One that another replica collected or signed anew is read here for [`LIFETIME`] longer at most; its answers tell caches
//! on the way that they may keep it thirty times as long.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

/// How long a narinfo is taken from memory.
const LIFETIME: Duration = Duration::from_secs(10);
/// So many are kept at most: with [`LARGEST`], 16 MiB.
const MOST: NonZeroUsize = NonZeroUsize::new(1024).expect("1024 is not 0");
/// The largest that is kept, in bytes, as stored and as text together.
pub const LARGEST: usize = 16 << 10;

/// What was read of late, by key.
#[derive(Debug)]
pub struct Recent<T>(Mutex<LruCache<String, (Instant, Arc<T>)>>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        // Room for them is taken as they come.
        let mut kept = LruCache::unbounded();
        kept.resize(MOST);
        Self(Mutex::new(kept))
    }
}

impl<T> Recent<T> {
    /// What was read a moment ago.
    pub fn get(&self, key: &str) -> Option<Arc<T>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_at, found) = kept.get(key)?;
        if read_at.elapsed() < LIFETIME {
            return Some(Arc::clone(found));
        }
        kept.pop(key);
        None
    }

    /// What this server has changed is read again.
    pub fn forget(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop(key);
    }

    /// Keeps what was asked for at `asked_at` and found.
    pub fn keep(&self, key: String, asked_at: Instant, found: Arc<T>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(key, (asked_at, found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_longer_than_its_time_nor_more_than_there_is_room_for() {
        let recent = Recent::default();
        let now = Instant::now();
        recent.keep("old".to_owned(), now.checked_sub(LIFETIME).unwrap(), Arc::new(0));
        assert_eq!(recent.get("old"), None);
        recent.keep("young".to_owned(), now.checked_sub(LIFETIME / 2).unwrap(), Arc::new(0));
        assert_eq!(recent.get("young").as_deref(), Some(&0));
        recent.forget("young");
        assert_eq!(recent.get("young"), None);
        for number in 0..MOST.get() {
            recent.keep(number.to_string(), now, Arc::new(number));
        }
        recent.keep("last".to_owned(), now, Arc::new(0));
        assert_eq!(recent.get("0"), None);
        assert_eq!(recent.get("1").as_deref(), Some(&1));
    }
}
