//! Paths that are not pushed yet: a folder with a symlink to each. So it outlives crashes, `ls` shows it, and Nix takes it for a
//! folder of roots where it lies among those.

use std::fs::File;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use niks3_protocol::nix::StorePath;

use super::HookError;

pub(super) struct Queue {
    folder: PathBuf,
}

impl Queue {
    /// Makes the folder where it is missing.
    pub(super) fn open(folder: &Path) -> Result<Self, HookError> {
        let queue = Self { folder: folder.to_owned() };
        std::fs::create_dir_all(folder).map_err(|error| queue.error(error))?;
        // Whether it can be written is to be known before somebody relies on it.
        let probe = folder.join(".probe");
        let _ = std::fs::remove_file(&probe);
        symlink("/", &probe)
            .and_then(|()| std::fs::remove_file(&probe))
            .map_err(|error| queue.error(error))?;
        Ok(queue)
    }

    /// Keeps paths until they are removed, on disk when this is over. Those that are there already stay where they are.
    pub(super) fn add(&self, paths: &[StorePath]) -> Result<(), HookError> {
        for path in paths {
            match symlink(path.as_str(), self.folder.join(path.base_name())) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(self.error(error)),
                _ => {}
            }
        }
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(|error| self.error(error))
    }

    /// All paths, the oldest first. What is no link to a store path is not ours.
    pub(super) fn paths(&self) -> Result<Vec<StorePath>, HookError> {
        let mut found: Vec<(SystemTime, StorePath)> = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(|error| self.error(error))? {
            let entry = entry.map_err(|error| self.error(error))?;
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            let Some(path) = target.to_str().and_then(|target| target.parse::<StorePath>().ok()) else {
                continue;
            };
            let since =
                entry.metadata().and_then(|link| link.modified()).map_err(|error| self.error(error))?;
            found.push((since, path));
        }
        found.sort_unstable();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// Forgets a path.
    pub(super) fn remove(&self, path: &StorePath) -> Result<(), HookError> {
        match std::fs::remove_file(self.folder.join(path.base_name())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error(error)),
            _ => Ok(()),
        }
    }

    fn error(&self, source: io::Error) -> HookError {
        HookError::Queue { path: self.folder.clone(), source }
    }
}
