//! One NAR from disk to compressed bytes, on a thread that may block. What Nix recorded of it is checked.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use niks3_protocol::nix::{NarHash, StorePath};
use tokio::sync::mpsc::Sender;

use crate::nar::{self, Hashing, Listing};
use crate::progress::Progress;
use crate::push::PushError;

/// NARs above this many bytes are compressed on several cores.
const SPREAD: u64 = 64 << 20;

/// What to compress, and what it must turn out to be.
pub(super) struct Source {
    pub(super) path: StorePath,
    pub(super) nar_hash: NarHash,
    pub(super) nar_size: u64,
    pub(super) level: i32,
    pub(super) jobs: usize,
    pub(super) progress: Arc<Progress>,
}

impl Source {
    /// All of it in memory.
    pub(super) fn compress_whole(&self) -> Result<(Vec<u8>, Listing), PushError> {
        self.compress(Vec::new())
    }

    /// In parts of `size` bytes, the last one shorter, each handed on when it is full.
    pub(super) fn compress_in_parts(&self, size: usize, parts: Sender<Bytes>) -> Result<Listing, PushError> {
        let (mut writer, listing) =
            self.compress(Parts { size, buffer: Vec::with_capacity(size), full: parts })?;
        writer.hand_on().map_err(|source| self.unreadable(source))?;
        Ok(listing)
    }

    fn compress<W: Write>(&self, out: W) -> Result<(W, Listing), PushError> {
        let unreadable = |source| self.unreadable(source);
        let mut encoder = zstd::Encoder::new(out, self.level).map_err(unreadable)?;
        encoder.set_pledged_src_size(Some(self.nar_size)).map_err(unreadable)?;
        if self.nar_size > SPREAD && self.jobs > 1 {
            encoder.multithread(u32::try_from(self.jobs).unwrap_or(1)).map_err(unreadable)?;
        }
        let mut hashing =
            Hashing::new(Ticking { inner: encoder, progress: &self.progress, limit: self.nar_size });
        let listing =
            nar::write(self.path.as_str().as_ref(), &mut hashing).map_err(|error| match error.kind() {
                io::ErrorKind::FileTooLarge => PushError::Changed { path: self.path.clone() },
                _ => unreadable(error),
            })?;
        let (ticking, hash, size) = hashing.finish();
        if hash != self.nar_hash.0 || size != self.nar_size {
            return Err(PushError::Changed { path: self.path.clone() });
        }
        Ok((ticking.inner.finish().map_err(unreadable)?, listing))
    }

    fn unreadable(&self, source: io::Error) -> PushError {
        PushError::ReadNar { path: self.path.clone(), source }
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

/// Cuts what is written into parts.
struct Parts {
    size: usize,
    buffer: Vec<u8>,
    full: Sender<Bytes>,
}

impl Parts {
    fn hand_on(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let part = std::mem::replace(&mut self.buffer, Vec::with_capacity(self.size));
        // The other side is gone when sending failed; it has the error.
        self.full.blocking_send(part.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.size - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == self.size {
            self.hand_on()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
