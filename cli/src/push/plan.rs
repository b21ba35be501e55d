//! What a closure consists of, as objects of the bucket. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use niks3_protocol::api::pending_closures::{NarInfoMetadata, PendingObject, UploadObject};
use niks3_protocol::nix::StorePath;
use niks3_protocol::object_key::{NarCompression, ObjectKey, ObjectKind};

use super::narinfo_key;
use crate::store::{self, PathInfo};

/// A closure with the keys of its objects.
pub(super) struct Plan {
    pub(super) roots: Vec<StorePath>,
    /// By path.
    pub(super) paths: HashMap<StorePath, PlannedPath>,
}

/// One store path.
pub(super) struct PlannedPath {
    pub(super) info: PathInfo,
    pub(super) narinfo: String,
    pub(super) nar: String,
    pub(super) listing: String,
    /// The log of its build and where this machine keeps it.
    pub(super) log: Option<(String, PathBuf)>,
}

impl Plan {
    pub(super) fn new(closure: Vec<PathInfo>, roots: &[StorePath]) -> Self {
        let paths = closure.into_iter().map(|info| (info.path.clone(), PlannedPath::new(info))).collect();
        Self { roots: roots.to_vec(), paths }
    }

    /// Everything some roots reach, as the server wants it named.
    pub(super) fn objects(&self, roots: &[StorePath]) -> Vec<UploadObject> {
        let mut seen: HashSet<&StorePath> = HashSet::new();
        let mut pending: Vec<&StorePath> = roots.iter().collect();
        let mut objects: BTreeMap<&str, UploadObject> = BTreeMap::new();
        while let Some(path) = pending.pop() {
            let Some(planned) = self.paths.get(path).filter(|_| seen.insert(path)) else { continue };
            pending.extend(&planned.info.references);
            for object in planned.objects() {
                objects.insert(object.0, object.1);
            }
        }
        objects.into_values().collect()
    }

    /// Paths of which something is missing, and the bytes of the NARs that are.
    pub(super) fn missing(&self, pending: &BTreeMap<String, PendingObject>) -> (usize, u64) {
        let mut size = 0;
        let mut nars = HashSet::new();
        let mut count = 0;
        for path in self.paths.values() {
            if pending.contains_key(&path.nar) && nars.insert(&path.nar) {
                size += path.info.nar_size;
            }
            count += usize::from(
                [&path.nar, &path.narinfo, &path.listing].iter().any(|key| pending.contains_key(*key)),
            );
        }
        (count, size)
    }
}

impl PlannedPath {
    fn new(info: PathInfo) -> Self {
        let hash = info.path.hash();
        let log = info.deriver.as_ref().and_then(|deriver| {
            let key = ObjectKey::BuildLog(deriver.base_name().to_owned()).to_string();
            Some((key, store::log_file(deriver)?))
        });
        Self {
            narinfo: narinfo_key(&info.path),
            nar: ObjectKey::Nar(info.nar_hash, NarCompression::Zstd).to_string(),
            listing: ObjectKey::Listing(hash).to_string(),
            log: log.filter(|(key, _)| key.parse::<ObjectKey>().is_ok()),
            info,
        }
    }

    fn objects(&self) -> Vec<(&str, UploadObject)> {
        let object =
            |key: &str, kind, refs, nar_size| UploadObject { key: key.to_owned(), kind, refs, nar_size };
        let mut refs: Vec<String> = self.info.references.iter().map(narinfo_key).collect();
        refs.push(self.nar.clone());
        refs.push(self.listing.clone());
        let mut all = vec![
            (self.narinfo.as_str(), object(&self.narinfo, ObjectKind::Narinfo, refs, None)),
            (self.nar.as_str(), object(&self.nar, ObjectKind::Nar, Vec::new(), Some(self.info.nar_size))),
            (self.listing.as_str(), object(&self.listing, ObjectKind::Listing, Vec::new(), None)),
        ];
        if let Some((log, _)) = &self.log {
            all.push((log, object(log, ObjectKind::BuildLog, Vec::new(), None)));
        }
        all
    }

    /// What its narinfo will say.
    pub(super) fn metadata(&self) -> NarInfoMetadata {
        NarInfoMetadata {
            store_path: self.info.path.clone(),
            url: self.nar.clone(),
            compression: NarCompression::Zstd.name().to_owned(),
            nar_hash: self.info.nar_hash,
            nar_size: self.info.nar_size,
            references: self.info.references.clone(),
            deriver: self.info.deriver.clone(),
            signatures: self.info.signatures.clone(),
            ca: self.info.ca.clone(),
        }
    }
}
