//! One NAR from disk to compressed bytes, on a thread that may block. What Nix recorded of it is checked.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use niks3_protocol::nix::{NarHash, StorePath};
use tokio::sync::mpsc::Sender;

use crate::nar::{self, Hashing, Listing};
use crate::progress::Progress;
use crate::push::PushError;

use super::budget::workers;
use super::encoder::Contexts;
use super::memory::{Buffer, Memory, Part};

/// NARs above this many bytes are compressed on several cores.
const SPREAD: u64 = 64 << 20;
/// Bytes of a NAR gathered before they are hashed and compressed.
const BUFFER: usize = 128 << 10;

/// What to compress, and what it must turn out to be.
pub(super) struct Source {
    pub(super) path: StorePath,
    pub(super) nar_hash: NarHash,
    pub(super) nar_size: u64,
    pub(super) level: i32,
    pub(super) jobs: usize,
    pub(super) progress: Arc<Progress>,
    pub(super) memory: Memory,
    pub(super) contexts: Contexts,
}

impl Source {
    /// Whether it is compressed on several cores.
    pub(super) fn is_spread(&self) -> bool {
        self.nar_size > SPREAD && workers(self.level, self.jobs).is_some()
    }

    /// All of it in memory.
    pub(super) fn compress_whole(&self) -> Result<(Part, Listing), PushError> {
        let (whole, listing) = self.compress(Whole(self.memory.buffer(self.nar_size)))?;
        Ok((whole.0.into_part(), listing))
    }

    /// In parts of `size` bytes, the last one shorter, each handed on when it is full.
    pub(super) fn compress_in_parts(&self, size: usize, parts: Sender<Part>) -> Result<Listing, PushError> {
        let (mut writer, listing) =
            self.compress(Parts { size, filling: None, memory: self.memory.clone(), full: parts })?;
        writer.hand_on().map_err(|source| self.unreadable(source))?;
        Ok(listing)
    }

    fn compress<W: Write>(&self, out: W) -> Result<(W, Listing), PushError> {
        let unreadable = |source| self.unreadable(source);
        let workers = workers(self.level, self.jobs).filter(|_| self.is_spread());
        let encoder = self.contexts.encoder(out, self.level, self.nar_size, workers).map_err(unreadable)?;
        let hashing =
            Hashing::new(Ticking { inner: encoder, progress: &self.progress, limit: self.nar_size });
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::FileTooLarge => PushError::Changed { path: self.path.clone() },
            _ => unreadable(error),
        };
        // A NAR is mostly words of eight bytes, a call of sha256 and zstd each.
        let mut buffered = BufWriter::with_capacity(BUFFER, hashing);
        let listing = nar::write(self.path.as_str().as_ref(), &mut buffered).map_err(failed)?;
        let hashing = buffered.into_inner().map_err(|error| failed(error.into_error()))?;
        let (ticking, hash, size) = hashing.finish();
        if hash != self.nar_hash.0 || size != self.nar_size {
            return Err(PushError::Changed { path: self.path.clone() });
        }
        Ok((ticking.inner.finish().map_err(unreadable)?, listing))
    }

    fn unreadable(&self, source: io::Error) -> PushError {
        unreadable(&self.path, source)
    }
}

/// What cannot be read, or is no longer there at all.
pub(super) fn unreadable(path: &StorePath, source: io::Error) -> PushError {
    let path = path.clone();
    match Path::new(path.as_str()).symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => PushError::Gone { path },
        _ => PushError::ReadNar { path, source },
    }
}

/// Tells the progress what passes through, and stops a NAR that grew: zstd was told its size.
struct Ticking<'a, W> {
    inner: W,
    progress: &'a Progress,
    limit: u64,
}

impl<W: Write> Write for Ticking<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.limit = self.limit.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        self.progress.read(bytes.len() as u64);
        self.inner.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Gathers all that is written.
struct Whole(Buffer);

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Cuts what is written into parts.
struct Parts {
    size: usize,
    filling: Option<Buffer>,
    memory: Memory,
    full: Sender<Part>,
}

impl Parts {
    fn hand_on(&mut self) -> io::Result<()> {
        let Some(buffer) = self.filling.take() else { return Ok(()) };
        // The other side is gone when sending failed; it has the error.
        self.full.blocking_send(buffer.into_part()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (size, memory) = (self.size, &self.memory);
        let filling = &mut self.filling.get_or_insert_with(|| memory.buffer(size as u64)).bytes;
        let taken = bytes.len().min(size - filling.len());
        filling.extend_from_slice(&bytes[..taken]);
        if filling.len() == size {
            self.hand_on()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
