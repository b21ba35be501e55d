//! The keys of the bucket: what may be uploaded under which name, and how it is stored and served.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::nix::store_path::DEFAULT_STORE_DIR;
use crate::nix::{NarHash, StorePath, StorePathHash, base32};

/// The longest build log or realisation key, in bytes; S3 itself ends at 1024.
pub const MAX_KEY: usize = 512;

/// `nix-cache-info`, written by the server.
pub const CACHE_INFO: &str = "nix-cache-info";
/// The landing page, written by the server.
pub const LANDING_PAGE: &str = "index.html";
/// Pins are `pins/{name}`, each holding its store path.
pub const PIN_PREFIX: &str = "pins/";
/// Where narinfos of clients go that send their own: `staging/{upload}/{32}.narinfo`. Nobody reads them.
pub const STAGING_PREFIX: &str = "staging/";
/// `realisations/{algo}:{hash}!{output}.doi`
pub const REALISATION_PREFIX: &str = "realisations/";
/// `build-trace-v2/{name}.drv/{output}.doi`: the same, as Nix asks for it since 2.35.
pub const BUILD_TRACE_PREFIX: &str = "build-trace-v2/";
/// The UUID that ties a bucket and prefix to one database.
pub const IDENTITY_MARKER: &str = ".niks3-cache";

/// A text that is no key of a Nix binary cache.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a key of a binary cache")]
pub struct ObjectKeyError(String);

/// What an object is; the `type` of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A NAR, compressed or not.
    Nar,
    /// A narinfo.
    Narinfo,
    /// A listing of a NAR's files.
    Listing,
    /// The log of a build.
    BuildLog,
    /// The output path of a content-addressed derivation, under either of its names.
    Realisation,
}

impl ObjectKind {
    /// `Content-Type` in the bucket and to readers.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Nar => "application/x-nix-nar",
            Self::Narinfo => "text/x-nix-narinfo",
            Self::Listing | Self::Realisation => "application/json",
            Self::BuildLog => "text/plain; charset=utf-8",
        }
    }

    /// `Content-Encoding` in the bucket: all but NARs are stored as zstd, which readers must undo.
    pub fn content_encoding(self) -> Option<&'static str> {
        match self {
            Self::Nar => None,
            Self::Narinfo | Self::Listing | Self::BuildLog | Self::Realisation => Some("zstd"),
        }
    }
}

/// How the bytes of a NAR's object are compressed; the suffix of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NarCompression {
    /// `.nar`
    None,
    /// `.nar.zst`
    Zstd,
    /// `.nar.xz`
    Xz,
    /// `.nar.bz2`
    Bzip2,
}

impl NarCompression {
    /// The end of the key.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => ".nar",
            Self::Zstd => ".nar.zst",
            Self::Xz => ".nar.xz",
            Self::Bzip2 => ".nar.bz2",
        }
    }

    /// The `Compression` of the narinfo.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }
}

/// A key that clients may upload and Nix may read. [`Display`](fmt::Display) and [`FromStr`] are inverses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ObjectKey {
    /// `nar/{52}.nar.zst`; the digits are the NAR's own hash.
    Nar(NarHash, NarCompression),
    /// `{32}.narinfo`
    Narinfo(StorePathHash),
    /// `{32}.ls`
    Listing(StorePathHash),
    /// `log/{name}.drv`
    BuildLog(String),
    /// `realisations/{algo}:{hash}!{output}.doi`
    Realisation(String),
    /// `build-trace-v2/{name}.drv/{output}.doi`: what Nix asks for since 2.35.
    BuildTrace(String),
}

/// Whether a key of a cache is one of a narinfo.
pub fn is_narinfo(key: &str) -> bool {
    key.ends_with(".narinfo")
}

impl ObjectKey {
    /// What the object is.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Nar(..) => ObjectKind::Nar,
            Self::Narinfo(_) => ObjectKind::Narinfo,
            Self::Listing(_) => ObjectKind::Listing,
            Self::BuildLog(_) => ObjectKind::BuildLog,
            Self::Realisation(_) | Self::BuildTrace(_) => ObjectKind::Realisation,
        }
    }
}

impl FromStr for ObjectKey {
    type Err = ObjectKeyError;

    fn from_str(key: &str) -> Result<Self, Self::Err> {
        parse(key).ok_or_else(|| ObjectKeyError(key.chars().take(MAX_KEY).collect()))
    }
}

/// What names of the store have beside letters and digits.
const NAME: &[u8] = b"+._?=-";

/// Letters, digits and `more`, at least one.
fn is_word(text: &str, more: &[u8]) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
}

fn parse(key: &str) -> Option<ObjectKey> {
    if key.len() > MAX_KEY {
        return None;
    }
    if let Some(name) = key.strip_prefix("nar/") {
        let (digits, suffix) = name.split_at_checked(52)?;
        let compression =
            [NarCompression::Zstd, NarCompression::None, NarCompression::Xz, NarCompression::Bzip2]
                .into_iter()
                .find(|compression| compression.suffix() == suffix)?;
        return Some(ObjectKey::Nar(NarHash(base32::decode(digits)?), compression));
    }
    if let Some(name) = key.strip_prefix("log/") {
        let fits = is_word(name.strip_suffix(".drv")?, NAME);
        return (fits && !key.contains("..")).then(|| ObjectKey::BuildLog(name.to_owned()));
    }
    if let Some(name) = key.strip_prefix(REALISATION_PREFIX) {
        let (hash, output) = name.strip_suffix(".doi")?.split_once('!')?;
        let (algorithm, digits) = hash.split_once(':')?;
        let fits = is_word(algorithm, b"") && is_word(digits, b"+/=") && is_word(output, NAME);
        return (fits && !key.contains("..") && !key.contains("//"))
            .then(|| ObjectKey::Realisation(name.to_owned()));
    }
    if let Some(name) = key.strip_prefix(BUILD_TRACE_PREFIX) {
        let (derivation, output) = name.strip_suffix(".doi")?.split_once('/')?;
        let path = StorePath::in_dir(DEFAULT_STORE_DIR, derivation).ok()?;
        let fits = path.name().strip_suffix(".drv").is_some() && is_word(output, NAME);
        return (fits && !key.contains("..")).then(|| ObjectKey::BuildTrace(name.to_owned()));
    }
    if let Some(hash) = key.strip_suffix(".narinfo") {
        return hash.parse().ok().map(ObjectKey::Narinfo);
    }
    key.strip_suffix(".ls")?.parse().ok().map(ObjectKey::Listing)
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nar(hash, compression) => write!(f, "nar/{}{}", hash.to_base32(), compression.suffix()),
            Self::Narinfo(hash) => write!(f, "{hash}.narinfo"),
            Self::Listing(hash) => write!(f, "{hash}.ls"),
            Self::BuildLog(name) => write!(f, "log/{name}"),
            Self::Realisation(name) => write!(f, "{REALISATION_PREFIX}{name}"),
            Self::BuildTrace(name) => write!(f, "{BUILD_TRACE_PREFIX}{name}"),
        }
    }
}

impl From<ObjectKey> for String {
    fn from(key: ObjectKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for ObjectKey {
    type Error = ObjectKeyError;

    fn try_from(key: String) -> Result<Self, Self::Error> {
        key.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGITS: &str = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
    const HASH: &str = "00bgd045z0d4icpbc2yyz4gx48ak44la";

    #[test]
    fn reads_every_kind() {
        for (key, kind) in [
            (format!("nar/{DIGITS}.nar.zst"), ObjectKind::Nar),
            (format!("nar/{DIGITS}.nar"), ObjectKind::Nar),
            (format!("{HASH}.narinfo"), ObjectKind::Narinfo),
            (format!("{HASH}.ls"), ObjectKind::Listing),
            (format!("log/{HASH}-hello-2.12.drv"), ObjectKind::BuildLog),
            ("realisations/sha256:abc123!out.doi".to_owned(), ObjectKind::Realisation),
            (format!("build-trace-v2/{HASH}-a.drv/out.doi"), ObjectKind::Realisation),
        ] {
            let parsed: ObjectKey = key.parse().unwrap();
            assert_eq!(parsed.kind(), kind, "{key}");
            assert_eq!(parsed.to_string(), key);
        }
    }

    #[test]
    fn refuses_everything_else() {
        for key in [
            "",
            "/",
            "nix-cache-info",
            "../etc/passwd",
            &format!("/{HASH}.narinfo"),
            &format!("nar/../{DIGITS}.nar.zst"),
            &format!("nar//{DIGITS}.nar.zst"),
            &format!("nar/{DIGITS}.nar.gz"),
            &format!("{HASH}.narinfo\n"),
            &format!("e{}.narinfo", &HASH[1..]),
            "log/.drv",
            "log/a/b.drv",
            "log/a..b.drv",
            "realisations/sha256:a!.doi",
            "realisations/sha256:../a!out.doi",
            "pins/main",
        ] {
            assert!(key.parse::<ObjectKey>().is_err(), "{key:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_formats_back_and_is_harmless(key in "[ -~\u{0}-\u{20}é/.]{0,80}") {
            if let Ok(parsed) = key.parse::<ObjectKey>() {
                prop_assert_eq!(parsed.to_string(), key.clone());
                prop_assert!(!key.contains("..") && !key.contains("//") && !key.starts_with('/'));
            }
        }
    }
}
