//! The store paths everybody pushes: real NARs, signed and fetched by Nix, with references among each other.

use std::collections::BTreeSet;

use niks3_protocol::api::pending_closures::{NarInfoMetadata, UploadObject};
use niks3_protocol::nix::{NarHash, NarInfo, Signature, StorePath};
use niks3_protocol::object_key::{NarCompression, ObjectKind};
use sha2::{Digest as _, Sha256};

use crate::dice::Dice;
use crate::plan::Plan;

const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
const STORE: &str = "/nix/store";
/// Paths of a small closure.
const SMALL: usize = 3;
/// One root of so many is pinned once it was pushed, and stays so; were it more, there would be little to collect.
const PINNED: usize = 10;

/// One store path with its NAR.
#[derive(Debug)]
pub struct Path {
    /// The path.
    pub store_path: StorePath,
    /// Its NAR.
    pub nar: Vec<u8>,
    /// What it refers to.
    pub references: Vec<StorePath>,
    /// Indexes of all it reaches, dependencies first, itself last.
    pub closure: Vec<usize>,
    /// Its size is not said, so its NAR is a multipart upload.
    pub multipart: bool,
}

/// All of them.
#[derive(Debug)]
pub struct Universe {
    /// By index.
    pub paths: Vec<Path>,
    /// Those with the smallest closures, of which nothing is pinned for good.
    pub small: Vec<usize>,
}

impl Universe {
    /// What a seed makes.
    pub fn create(plan: &Plan) -> anyhow::Result<Self> {
        let mut dice = Dice::new(plan.seed, "universe");
        let mut paths: Vec<Path> = Vec::with_capacity(plan.paths);
        for index in 0..plan.paths {
            let direct: BTreeSet<usize> =
                (0..dice.roll(3)).filter(|_| index > 0).map(|_| dice.index(index)).collect();
            let mut closure: Vec<usize> = Vec::new();
            for target in &direct {
                let reached = paths[*target].closure.iter().filter(|path| !closure.contains(path));
                let reached: Vec<usize> = reached.copied().collect();
                closure.extend(reached);
            }
            closure.push(index);
            // Equal content is one NAR: what one path's collection deletes, another may need.
            let content = dice.roll(plan.paths as u64 * 2 / 3);
            let size = [100, 3000, 60_000][usize::try_from(content % 3)?];
            let text = format!("content {content} of the run {} ", plan.seed);
            let nar = nar(&text.repeat(size / text.len() + 1).into_bytes());
            let name = format!("path-{index}");
            let hash: String = Sha256::digest(format!("{} {name}", plan.seed).as_bytes())
                .iter()
                .map(|byte| char::from(DIGITS[usize::from(byte % 32)]))
                .collect();
            paths.push(Path {
                store_path: format!("{STORE}/{hash}-{name}").parse()?,
                nar,
                references: direct.iter().map(|target| paths[*target].store_path.clone()).collect(),
                closure,
                multipart: content.is_multiple_of(9),
            });
        }
        let kept: BTreeSet<usize> = (0..paths.len())
            .filter(|root| Self::is_pinned(*root))
            .flat_map(|root| paths[root].closure.iter().copied())
            .collect();
        let is_small = |root: &usize| {
            let closure = &paths[*root].closure;
            closure.len() <= SMALL && !closure.iter().any(|path| kept.contains(path))
        };
        let small = (0..paths.len()).filter(is_small).collect();
        Ok(Self { paths, small })
    }

    /// Whether a root is pinned for good once it was pushed.
    pub fn is_pinned(root: usize) -> bool {
        root % PINNED == PINNED / 2
    }
}

impl Path {
    /// Key of its narinfo.
    pub fn key(&self) -> String {
        self.store_path.narinfo_key()
    }

    /// Key of its listing.
    pub fn listing_key(&self) -> String {
        self.store_path.listing_key()
    }

    /// Key of its NAR.
    pub fn nar_key(&self, compression: NarCompression) -> String {
        format!("nar/{}{}", self.nar_hash().to_base32(), compression.suffix())
    }

    fn nar_hash(&self) -> NarHash {
        NarHash(Sha256::digest(&self.nar).into())
    }

    fn nar_size(&self) -> u64 {
        self.nar.len() as u64
    }

    /// What a begin says of it.
    pub fn objects(&self, compression: NarCompression) -> Vec<UploadObject> {
        let mut refs: Vec<String> = self.references.iter().map(StorePath::narinfo_key).collect();
        refs.extend([self.nar_key(compression), self.listing_key()]);
        let object = |key, kind, refs, nar_size| UploadObject { key, kind, refs, nar_size };
        let size = (!self.multipart).then(|| self.nar_size());
        vec![
            object(self.key(), ObjectKind::Narinfo, refs, None),
            object(self.nar_key(compression), ObjectKind::Nar, Vec::new(), size),
            object(self.listing_key(), ObjectKind::Listing, Vec::new(), None),
        ]
    }

    /// What a sign says of it.
    pub fn metadata(&self, compression: NarCompression) -> NarInfoMetadata {
        NarInfoMetadata {
            store_path: self.store_path.clone(),
            url: self.nar_key(compression),
            compression: compression.name().to_owned(),
            nar_hash: self.nar_hash(),
            nar_size: self.nar_size(),
            references: self.references.clone(),
            deriver: None,
            signatures: Vec::new(),
            ca: None,
        }
    }

    /// The stored bytes of its narinfo.
    pub fn narinfo(
        &self,
        compression: NarCompression,
        signatures: Vec<Signature>,
    ) -> anyhow::Result<Vec<u8>> {
        let narinfo = NarInfo {
            store_path: self.store_path.clone(),
            url: self.nar_key(compression),
            compression: compression.name().to_owned(),
            file_hash: None,
            file_size: None,
            nar_hash: self.nar_hash(),
            nar_size: self.nar_size(),
            references: self.references.clone(),
            deriver: None,
            signatures,
            ca: None,
        };
        Ok(zstd::encode_all(narinfo.to_string().as_bytes(), 1)?)
    }

    /// The stored bytes of its NAR.
    pub fn stored_nar(&self, compression: NarCompression) -> anyhow::Result<Vec<u8>> {
        match compression {
            NarCompression::None => Ok(self.nar.clone()),
            _ => Ok(zstd::encode_all(self.nar.as_slice(), 1)?),
        }
    }

    /// The stored bytes of its listing.
    pub fn stored_listing(&self) -> anyhow::Result<Vec<u8>> {
        let text = format!("{{\"version\":1,\"root\":{{\"type\":\"regular\",\"size\":{}}}}}", self.nar.len());
        Ok(zstd::encode_all(text.as_bytes(), 1)?)
    }
}

/// The archive of one regular file.
fn nar(content: &[u8]) -> Vec<u8> {
    let mut archive = Vec::with_capacity(content.len() + 200);
    for text in [&b"nix-archive-1"[..], b"(", b"type", b"regular", b"contents", content, b")"] {
        archive.extend((text.len() as u64).to_le_bytes());
        archive.extend(text);
        archive.resize(archive.len().next_multiple_of(8), 0);
    }
    archive
}
