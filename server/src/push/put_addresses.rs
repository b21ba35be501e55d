//! Where the objects of an upload go that are not sent in parts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use niks3_protocol::object_key::{ObjectKey, ObjectKind};
use tokio::task::{JoinError, JoinHandle};

use super::staging::staging_key;
use crate::bucket::Presigner;

/// So many addresses are signed while PostgreSQL writes rows for their objects, at most: they are some six MiB.
const AHEAD: usize = 16_384;

/// An object that is missing and not sent in parts.
pub struct Missing {
    /// Its key.
    pub key: String,
    /// What it is.
    pub kind: ObjectKind,
}

/// Signs addresses of one upload.
pub struct PutAddresses {
    pub(super) upload: i64,
    pub(super) presigner: Presigner,
    /// The client sends narinfos of its own.
    pub(super) staged: bool,
    /// The client asks for each when it knows its bytes.
    pub(super) bound: bool,
    /// The client sends along what it is told.
    pub(super) told: bool,
}

impl PutAddresses {
    /// What each PUT has to have beside its own headers.
    pub fn headers(&self) -> BTreeMap<String, String> {
        if self.told { self.presigner.headers().clone() } else { BTreeMap::new() }
    }

    /// Where to send an object, where its client is told now.
    pub fn of(&self, key: &str, kind: ObjectKind) -> Option<String> {
        // Never the address of a narinfo: whoever has one may replace what others committed since.
        match kind {
            ObjectKind::Narinfo if self.staged => {
                Some(self.presigner.put(&staging_key(self.upload, key), self.told))
            }
            ObjectKind::Narinfo => None,
            _ if self.bound => None,
            _ => Some(self.presigner.put(key, self.told)),
        }
    }
}

/// Addresses by key.
pub type SignedAddresses = HashMap<String, String>;

/// Signs some of what is about to be missing, until that is wanted.
pub(super) struct Ahead {
    wanted: Arc<AtomicBool>,
    signing: JoinHandle<SignedAddresses>,
}

impl Ahead {
    /// Begins with the first.
    pub(super) fn start(addresses: &Arc<PutAddresses>, unknown: &[String]) -> Self {
        let (addresses, wanted) = (Arc::clone(addresses), Arc::new(AtomicBool::new(false)));
        let some = if addresses.bound && !addresses.staged { 0 } else { unknown.len().min(AHEAD) };
        let unknown = unknown[..some].to_vec();
        let until = Arc::clone(&wanted);
        let address = move |key: String| {
            let kind = key.parse::<ObjectKey>().ok()?.kind();
            let address = addresses.of(&key, kind)?;
            Some((key, address))
        };
        let signing = tokio::task::spawn_blocking(move || {
            let unknown = unknown.into_iter().take_while(|_| !until.load(Ordering::Relaxed));
            unknown.filter_map(address).collect()
        });
        Self { wanted, signing }
    }

    /// Those that are signed by now: the others are signed on all cores while the answer is sent.
    pub(super) async fn end(self) -> Result<SignedAddresses, JoinError> {
        self.wanted.store(true, Ordering::Relaxed);
        self.signing.await
    }
}
