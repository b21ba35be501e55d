//! The listing of a NAR (`{hash}.ls`), so that single files can be found without fetching the NAR.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::Serialize;

/// The whole file.
#[derive(Debug, Serialize)]
pub(crate) struct Listing {
    version: u8,
    root: Entry,
}

/// One file, directory or symlink.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Entry {
    #[serde(rename_all = "camelCase")]
    Regular {
        size: u64,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        executable: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        nar_offset: Option<u64>,
    },
    Directory {
        entries: BTreeMap<String, Entry>,
    },
    Symlink {
        target: String,
    },
}

impl Listing {
    pub(super) fn new(root: Entry) -> Self {
        Self { version: 1, root }
    }
}

impl Entry {
    pub(super) fn regular(size: u64, executable: bool, nar_offset: Option<u64>) -> Self {
        Self::Regular { size, executable, nar_offset }
    }

    pub(super) fn symlink(target: &[u8]) -> Self {
        Self::Symlink { target: String::from_utf8_lossy(target).into_owned() }
    }

    /// Names that are not UTF-8 cannot stand in JSON; they are shown as well as it goes.
    pub(super) fn directory(entries: Vec<(OsString, Self)>) -> Self {
        let named = entries.into_iter().map(|(name, entry)| (name.to_string_lossy().into_owned(), entry));
        Self::Directory { entries: named.collect() }
    }
}

pub(super) fn walk(path: &Path) -> io::Result<Entry> {
    let metadata = fs::symlink_metadata(path).map_err(|error| super::at(path, &error))?;
    if metadata.is_dir() {
        let names = super::sorted_names(path)?.into_iter();
        let entries: io::Result<Vec<_>> =
            names.map(|name| Ok((name.clone(), walk(&path.join(name))?))).collect();
        return Ok(Entry::directory(entries?));
    }
    if metadata.is_symlink() {
        return Ok(Entry::symlink(&fs::read_link(path)?.into_os_string().into_vec()));
    }
    Ok(Entry::regular(metadata.len(), metadata.permissions().mode() & 0o100 != 0, None))
}
