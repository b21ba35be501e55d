//! The files of the journal: `$XDG_STATE_HOME/niks3/pushes/{server}-{run}`, one line of JSON an entry.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Entry;

/// What is older is not looked at: no server keeps what was not committed for so long.
const MAX_AGE: Duration = Duration::from_hours(24);
/// The largest file that is read: ten thousand paths make 3 MB.
const MAX_SIZE: u64 = 64 << 20;

/// This run's file, made when there is something to write.
#[derive(Default)]
pub(super) struct Files {
    path: Option<PathBuf>,
    file: Option<File>,
    /// Files of runs that are over, locked; they go when their content is in this run's own.
    old: Vec<(PathBuf, File)>,
}

impl Files {
    /// What runs for that server left behind; nothing where there is no home to look in.
    pub(super) fn take_over(server: &str) -> io::Result<(Self, Vec<Entry>)> {
        let Some(folder) = folder() else { return Ok(Default::default()) };
        let prefix = format!("{:016x}-", xxhash_rust::xxh3::xxh3_64(server.as_bytes()));
        let (mut old, mut entries) = (Vec::new(), Vec::new());
        for path in list(&folder)? {
            let mine = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
            let Some(file) = lock(&path) else { continue };
            let metadata = file.metadata()?;
            if metadata.modified()?.elapsed().is_ok_and(|age| age > MAX_AGE) {
                fs::remove_file(&path)?;
            } else if mine {
                let mut text = Vec::new();
                (&file).take(MAX_SIZE).read_to_end(&mut text)?;
                // A line that was cut off, or written by another version, says nothing.
                entries.extend(
                    text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()),
                );
                old.push((path, file));
            }
        }
        let name = format!("{prefix}{:016x}", rand::random::<u64>());
        Ok((Self { path: Some(folder.join(name)), file: None, old }, entries))
    }

    /// One more line.
    pub(super) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        self.write(std::slice::from_ref(entry))
    }

    /// These lines in place of all there are. Without any, no file is left.
    pub(super) fn replace(&mut self, entries: &[Entry]) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        if entries.is_empty() {
            if self.file.take().is_some() {
                fs::remove_file(path).map_err(|error| at(path, &error))?;
            }
        } else {
            if let Some(file) = &mut self.file {
                file.set_len(0).and_then(|()| file.rewind()).map_err(|error| at(path, &error))?;
            }
            self.write(entries)?;
        }
        for (path, _locked) in self.old.drain(..) {
            fs::remove_file(&path).map_err(|error| at(&path, &error))?;
        }
        Ok(())
    }

    fn write(&mut self, entries: &[Entry]) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, entry)?;
            lines.push(b'\n');
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(create(path).map_err(|error| at(path, &error))?),
        };
        file.write_all(&lines).map_err(|error| at(path, &error))
    }
}

/// The folder of all journals, where this user has a home.
fn folder() -> Option<PathBuf> {
    let given = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = given.or_else(|| {
        let home = PathBuf::from(std::env::var_os("HOME")?);
        (home.is_absolute() && home.is_dir()).then(|| home.join(".local/state"))
    })?;
    Some(state.join("niks3/pushes"))
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(at(folder, &error)),
    }
}

/// Opens a file that no running push holds and nobody removed meanwhile.
fn lock(path: &Path) -> Option<File> {
    let file = File::options().read(true).open(path).ok()?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return None,
    }
    let (here, there) = (file.metadata().ok()?, fs::metadata(path).ok()?);
    (here.is_file() && here.ino() == there.ino()).then_some(file)
}

/// A new file, readable by its owner alone, locked for as long as this run lives.
fn create(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        // Some file systems of a network know no locks.
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another push holds it")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The same error, with the path it happened at.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{} cannot be written: {error}", path.display()))
}
