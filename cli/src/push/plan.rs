//! What a closure consists of, as objects of the bucket. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use niks3_protocol::api::pending_closures::{NarInfoMetadata, PendingObject, UploadObject};
use niks3_protocol::nix::StorePath;
use niks3_protocol::object_key::{NarCompression, ObjectKey, ObjectKind};

use crate::store::{self, PathInfo};

/// A closure with the keys of its objects.
pub(super) struct Plan {
    pub(super) roots: Vec<StorePath>,
    /// By path.
    pub(super) paths: HashMap<StorePath, PlannedPath>,
}

/// One store path.
#[derive(Clone)]
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

    /// Paths of which something is missing.
    pub(super) fn missing(&self, pending: &BTreeMap<String, PendingObject>) -> Vec<&StorePath> {
        let is_missing = |path: &PlannedPath| {
            [&path.nar, &path.narinfo, &path.listing].iter().any(|key| pending.contains_key(*key))
        };
        self.paths.iter().filter(|(_, path)| is_missing(path)).map(|(path, _)| path).collect()
    }

    /// Bytes of the missing NARs, each once.
    pub(super) fn nar_bytes(&self, pending: &BTreeMap<String, PendingObject>) -> u64 {
        let mut nars = HashSet::new();
        let missing =
            self.paths.values().filter(|path| pending.contains_key(&path.nar) && nars.insert(&path.nar));
        missing.map(|path| path.info.nar_size).sum()
    }

    /// All keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.paths.values().flat_map(|path| {
            let log = path.log.as_ref().map(|(key, _)| key.as_str());
            [path.narinfo.as_str(), &path.nar, &path.listing].into_iter().chain(log)
        })
    }

    /// What is left without some paths and all that need them; `lost` is told each of those, and what it needs.
    /// What a lost root needed becomes a root, unless another path that is left needs it too.
    pub(super) fn without(
        &self,
        failed: &HashSet<StorePath>,
        mut lost: impl FnMut(&StorePath, &StorePath),
    ) -> Self {
        let mut gone: HashSet<&StorePath> = failed.iter().collect();
        loop {
            let needy =
                self.paths.values().filter(|path| !gone.contains(&path.info.path)).filter_map(|path| {
                    let needed = path.info.references.iter().find(|needed| gone.contains(needed))?;
                    Some((&path.info.path, needed))
                });
            let needy: Vec<_> = needy.collect();
            if needy.is_empty() {
                break;
            }
            for (path, needed) in needy {
                lost(path, needed);
                gone.insert(path);
            }
        }
        let left: Vec<&PlannedPath> =
            self.paths.values().filter(|path| !gone.contains(&path.info.path)).collect();
        let needed: HashSet<&StorePath> = left
            .iter()
            .flat_map(|path| path.info.references.iter().filter(|needed| **needed != path.info.path))
            .collect();
        let is_root = |path: &StorePath| self.roots.contains(path) || !needed.contains(path);
        let mut roots: Vec<StorePath> =
            left.iter().map(|path| path.info.path.clone()).filter(is_root).collect();
        roots.sort_unstable();
        Self { roots, paths: left.into_iter().map(|path| (path.info.path.clone(), path.clone())).collect() }
    }
}

impl PlannedPath {
    fn new(info: PathInfo) -> Self {
        let hash = info.path.hash();
        let log = info.deriver.as_ref();
        let log = log.and_then(|deriver| Some((deriver.log_key(), store::log_file(deriver)?)));
        Self {
            narinfo: info.path.narinfo_key(),
            nar: ObjectKey::Nar(info.nar_hash, NarCompression::Zstd).to_string(),
            listing: ObjectKey::Listing(hash).to_string(),
            log: log.filter(|(key, _)| key.parse::<ObjectKey>().is_ok()),
            info,
        }
    }

    fn objects(&self) -> Vec<(&str, UploadObject)> {
        let object =
            |key: &str, kind, refs, nar_size| UploadObject { key: key.to_owned(), kind, refs, nar_size };
        let mut refs: Vec<String> = self.info.references.iter().map(StorePath::narinfo_key).collect();
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

    /// The key of its build's log, where there is one.
    pub(super) fn log_key(&self) -> String {
        self.log.as_ref().map(|(key, _)| key.clone()).unwrap_or_default()
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
