//! NARs from disk, as a stream in bounded memory, with the listing of what went by.
//!
//! Source: Nix, `src/libstore/../libutil/archive.cc`. Our own writer, because it is half of what a push does.

mod listing;

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

pub(crate) use listing::{Entry, Listing};

/// Bytes read from a file at a time.
const CHUNK: usize = 256 << 10;

/// Writes the NAR of `path` and gives its listing.
pub(crate) fn write(path: &Path, out: &mut impl Write) -> io::Result<Listing> {
    let mut writer = Writer { out, offset: 0, buffer: vec![0; CHUNK] };
    writer.text(b"nix-archive-1")?;
    let root = writer.node(path)?;
    Ok(Listing::new(root))
}

/// The listing of `path` without reading its files.
pub(crate) fn list(path: &Path) -> io::Result<Listing> {
    Ok(Listing::new(listing::walk(path)?))
}

struct Writer<'a, W> {
    out: &'a mut W,
    offset: u64,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<'_, W> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.offset += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        let padding = usize::try_from((8 - length % 8) % 8).unwrap_or(0);
        self.bytes(&[0; 8][..padding])
    }

    /// A string: its length, its bytes, zeros up to a multiple of eight.
    fn text(&mut self, text: &[u8]) -> io::Result<()> {
        self.bytes(&(text.len() as u64).to_le_bytes())?;
        self.bytes(text)?;
        self.pad(text.len() as u64)
    }

    fn texts(&mut self, texts: &[&[u8]]) -> io::Result<()> {
        texts.iter().try_for_each(|text| self.text(text))
    }

    fn node(&mut self, path: &Path) -> io::Result<Entry> {
        let metadata = fs::symlink_metadata(path).map_err(|error| at(path, &error))?;
        self.text(b"(")?;
        let entry = if metadata.is_file() {
            self.file(path, metadata.len(), metadata.permissions().mode() & 0o100 != 0)?
        } else if metadata.is_dir() {
            self.directory(path)?
        } else if metadata.is_symlink() {
            let target = fs::read_link(path).map_err(|error| at(path, &error))?.into_os_string().into_vec();
            self.texts(&[b"type", b"symlink", b"target", &target])?;
            Entry::symlink(&target)
        } else {
            let problem = "is neither file, directory nor symlink";
            return Err(at(path, &io::Error::new(io::ErrorKind::InvalidData, problem)));
        };
        self.text(b")")?;
        Ok(entry)
    }

    fn file(&mut self, path: &Path, size: u64, executable: bool) -> io::Result<Entry> {
        self.texts(&[b"type", b"regular"])?;
        if executable {
            self.texts(&[b"executable", b""])?;
        }
        self.text(b"contents")?;
        self.bytes(&size.to_le_bytes())?;
        let offset = self.offset;
        let mut file = File::open(path).map_err(|error| at(path, &error))?.take(size);
        let mut left = size;
        while left > 0 {
            let count = file.read(&mut self.buffer).map_err(|error| at(path, &error))?;
            if count == 0 {
                let problem = format!("became shorter while it was read: {left} of {size} bytes are missing");
                return Err(at(path, &io::Error::new(io::ErrorKind::UnexpectedEof, problem)));
            }
            self.out.write_all(&self.buffer[..count])?;
            left -= count as u64;
        }
        self.offset += size;
        self.pad(size)?;
        Ok(Entry::regular(size, executable, Some(offset)))
    }

    fn directory(&mut self, path: &Path) -> io::Result<Entry> {
        self.texts(&[b"type", b"directory"])?;
        let mut entries = Vec::new();
        for name in sorted_names(path)? {
            self.texts(&[b"entry", b"(", b"name", name.as_bytes(), b"node"])?;
            let entry = self.node(&path.join(&name))?;
            self.text(b")")?;
            entries.push((name, entry));
        }
        Ok(Entry::directory(entries))
    }
}

/// The names in a directory, in the order of their bytes.
fn sorted_names(path: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let names: io::Result<Vec<_>> =
        fs::read_dir(path).map_err(|error| at(path, &error))?.map(|entry| Ok(entry?.file_name())).collect();
    let mut names = names.map_err(|error| at(path, &error))?;
    names.sort_unstable();
    Ok(names)
}

/// The same error, with the path it happened at.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Counts and hashes what passes through.
pub(crate) struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Hashing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }

    /// What it wrote to, the hash and the number of bytes.
    pub(crate) fn finish(self) -> (W, [u8; 32], u64) {
        (self.inner, self.hash.finalize().into(), self.size)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        self.inner.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("bin/deep/er")).unwrap();
        fs::create_dir(root.join("empty")).unwrap();
        fs::write(root.join("bin/tool"), b"#!/bin/sh\n").unwrap();
        fs::set_permissions(root.join("bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
        for size in [0, 1, 7, 8, 9, 300_000] {
            fs::write(root.join(format!("file-{size}")), vec![b'x'; size]).unwrap();
        }
        // Sorted by bytes, `a.b` comes before `a/`'s sibling `aB`, whatever the locale says.
        for name in ["aB", "a.b", "a", "ä", "Z"] {
            fs::write(root.join("bin/deep/er").join(name), name).unwrap();
        }
        symlink("../bin/tool", root.join("link")).unwrap();
        symlink("/nowhere", root.join("dangling")).unwrap();
        folder
    }

    #[test]
    fn writes_what_nix_writes() {
        let folder = tree();
        for part in ["root", "root/bin/tool", "root/link", "root/file-0", "root/file-9", "root/empty"] {
            let path = folder.path().join(part);
            let nix = Command::new("nix-store").arg("--dump").arg(&path).output().unwrap();
            assert!(nix.status.success(), "{}", String::from_utf8_lossy(&nix.stderr));
            let mut ours = Vec::new();
            write(&path, &mut ours).unwrap();
            assert!(ours == nix.stdout, "{part}: {} bytes, Nix has {}", ours.len(), nix.stdout.len());
        }
    }

    #[test]
    fn the_listing_names_where_each_file_begins() {
        let folder = tree();
        let root = folder.path().join("root");
        let mut nar = Vec::new();
        let listing = serde_json::to_value(write(&root, &mut nar).unwrap()).unwrap();
        assert_eq!(listing["version"], 1);
        let tool = &listing["root"]["entries"]["bin"]["entries"]["tool"];
        assert_eq!(tool["type"], "regular");
        assert_eq!(tool["executable"], true);
        let offset = usize::try_from(tool["narOffset"].as_u64().unwrap()).unwrap();
        assert_eq!(&nar[offset..offset + 10], b"#!/bin/sh\n");
        assert_eq!(listing["root"]["entries"]["link"]["target"], "../bin/tool");
        let mut walked = serde_json::to_value(list(&root).unwrap()).unwrap();
        walked["root"]["entries"]["bin"]["entries"]["tool"]["narOffset"] = tool["narOffset"].clone();
        assert_eq!(walked["root"]["entries"]["bin"]["entries"]["tool"], *tool);
    }

    #[test]
    fn a_path_that_cannot_be_read_is_named() {
        let error = write(Path::new("/nowhere/at/all"), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/at/all: "), "{error}");
    }
}
