//! Where the objects of an upload go that are not sent in parts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use niks3_protocol::object_key::{ObjectKey, ObjectKind};
use tokio::task::JoinHandle;

use super::staging::staging_key;
use crate::bucket::Presigner;

/// So many addresses are signed while PostgreSQL writes rows for their objects. They are some six MiB: those of a hundred
/// thousand are signed while the answer is sent.
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
pub type Signed = HashMap<String, String>;

/// Signs some of what is about to be missing.
pub(super) fn sign_ahead(addresses: &Arc<PutAddresses>, unknown: &[String]) -> JoinHandle<Signed> {
    let addresses = Arc::clone(addresses);
    let some = if addresses.bound && !addresses.staged { 0 } else { unknown.len().min(AHEAD) };
    let unknown = unknown[..some].to_vec();
    let address = move |key: String| {
        let kind = key.parse::<ObjectKey>().ok()?.kind();
        let address = addresses.of(&key, kind)?;
        Some((key, address))
    };
    tokio::task::spawn_blocking(move || unknown.into_iter().filter_map(address).collect())
}
