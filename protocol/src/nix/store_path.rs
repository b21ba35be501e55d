//! Store paths: `/nix/store/{32 digits}-{name}`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::base32;

/// The store directory nearly everyone has.
pub const DEFAULT_STORE_DIR: &str = "/nix/store";

/// The longest name Nix accepts after the hash part, in bytes.
pub const MAX_NAME: usize = 211;

/// Why a text is not a store path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorePathError {
    /// No leading `/`.
    #[error("{0:?} is not an absolute path")]
    NotAbsolute(String),
    /// Its directory has an empty component, `.` or `..`; or what should be a base name has a directory.
    #[error("{0:?} is not directly in a store directory")]
    Directory(String),
    /// The last component does not begin with 32 digits of Nix base-32 and a dash.
    #[error("{0:?} does not begin with a 32-digit hash and a dash")]
    Hash(String),
    /// The name after the hash is empty, too long, or has a character that Nix refuses.
    #[error("{0:?} is not a valid store path name")]
    Name(String),
}

/// The 32 base-32 digits that identify a store path; the stem of its narinfo's key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StorePathHash(String);

impl StorePathHash {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StorePathHash {
    type Err = StorePathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if base32::is_base32(text, 32) {
            Ok(Self(text.to_owned()))
        } else {
            Err(StorePathError::Hash(text.to_owned()))
        }
    }
}

/// A whole store path, its store directory included.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct StorePath {
    path: String,
    /// Where the base name begins.
    base: usize,
}

impl StorePath {
    /// Puts a base name (`{hash}-{name}`, as narinfos list references) into a store directory.
    pub fn in_dir(store_dir: &str, base_name: &str) -> Result<Self, StorePathError> {
        if base_name.contains('/') {
            return Err(StorePathError::Directory(base_name.to_owned()));
        }
        format!("{store_dir}/{base_name}").parse()
    }

    /// The whole path.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// `/nix/store` of `/nix/store/{hash}-{name}`.
    pub fn store_dir(&self) -> &str {
        &self.path[..self.base - 1]
    }

    /// `{hash}-{name}`.
    pub fn base_name(&self) -> &str {
        &self.path[self.base..]
    }

    /// The hash part.
    pub fn hash(&self) -> StorePathHash {
        StorePathHash(self.digits().to_owned())
    }

    fn digits(&self) -> &str {
        &self.path[self.base..self.base + 32]
    }

    /// The key of its narinfo in a binary cache, `{hash}.narinfo`.
    pub fn narinfo_key(&self) -> String {
        [self.digits(), ".narinfo"].concat()
    }

    /// The key of its listing in a binary cache, `{hash}.ls`.
    pub fn listing_key(&self) -> String {
        [self.digits(), ".ls"].concat()
    }

    /// The key of the log of its build in a binary cache, `log/{base name}`; of a derivation.
    pub fn log_key(&self) -> String {
        format!("log/{}", self.base_name())
    }

    /// The name after the hash part.
    pub fn name(&self) -> &str {
        &self.path[self.base + 33..]
    }
}

/// Where the base name of a store path begins.
fn base_of(path: &str) -> Result<usize, StorePathError> {
    if !path.starts_with('/') {
        return Err(StorePathError::NotAbsolute(path.to_owned()));
    }
    let base = path.rfind('/').map_or(0, |slash| slash + 1);
    if base < 2 {
        return Err(StorePathError::Hash(path.to_owned()));
    }
    if path[1..base - 1].split('/').any(|part| ["", ".", ".."].contains(&part)) {
        return Err(StorePathError::Directory(path.to_owned()));
    }
    match path[base..].split_once('-') {
        Some((hash, name)) if base32::is_base32(hash, 32) => {
            if is_name(name) {
                Ok(base)
            } else {
                Err(StorePathError::Name(path.to_owned()))
            }
        }
        _ => Err(StorePathError::Hash(path.to_owned())),
    }
}

impl FromStr for StorePath {
    type Err = StorePathError;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        Ok(Self { base: base_of(path)?, path: path.to_owned() })
    }
}

/// Source: Nix, `src/libstore/path.cc` (`checkName`); 2.8 also allows a leading dot, so it is allowed here.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte))
}

impl fmt::Display for StorePathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StorePathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<StorePathHash> for String {
    fn from(value: StorePathHash) -> Self {
        value.0
    }
}

impl TryFrom<String> for StorePathHash {
    type Error = StorePathError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

impl From<StorePath> for String {
    fn from(value: StorePath) -> Self {
        value.path
    }
}

impl Serialize for StorePath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.path)
    }
}

impl TryFrom<String> for StorePath {
    type Error = StorePathError;

    fn try_from(path: String) -> Result<Self, Self::Error> {
        Ok(Self { base: base_of(&path)?, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432";

    #[test]
    fn takes_a_path_apart() {
        let path: StorePath = PATH.parse().unwrap();
        assert_eq!(path.store_dir(), "/nix/store");
        assert_eq!(path.hash().as_str(), "00bgd045z0d4icpbc2yyz4gx48ak44la");
        assert_eq!(path.name(), "net-tools-1.60_p20170221182432");
        assert_eq!(path.to_string(), PATH);
        assert_eq!(StorePath::in_dir("/nix/store", path.base_name()).unwrap(), path);
    }

    #[test]
    fn refuses_what_nix_refuses() {
        for bad in [
            "",
            "nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x",
            "/00bgd045z0d4icpbc2yyz4gx48ak44la-x",
            "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44l-x",
            "/nix/store/e0bgd045z0d4icpbc2yyz4gx48ak44la-x",
            "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la",
            "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-",
            "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-a b",
            "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x/",
            "/nix/store//00bgd045z0d4icpbc2yyz4gx48ak44la-x",
            "//nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x",
            "/nix/store/../00bgd045z0d4icpbc2yyz4gx48ak44la-x",
        ] {
            assert!(bad.parse::<StorePath>().is_err(), "{bad}");
        }
        let long = format!("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-{}", "x".repeat(212));
        assert!(long.parse::<StorePath>().is_err());
        let deeper = StorePath::in_dir("/nix/store", "deeper/00bgd045z0d4icpbc2yyz4gx48ak44la-x");
        assert!(matches!(deeper, Err(StorePathError::Directory(_))));
    }
}
