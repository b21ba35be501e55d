//! zstd, on contexts that are used again: a new one for each NAR costs the kernel megabytes of zeroed pages.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective, SafeResult, get_error_name};

/// Threads that compress one NAR at most: each takes memory.
const MAX_WORKERS: u32 = 8;
/// What one of them takes at a time; zstd's own choice is 8 MiB.
const WORKER_BYTES: u32 = 4 << 20;
/// Compressed bytes handed on at a time; a block of zstd is not larger.
const OUT: usize = 128 << 10;

/// A context that grew larger is not kept: another would not know that its memory is taken.
const LARGE: usize = 8 << 20;

/// The level for which zstd's choice is made better: [`LEVEL_3`].
const TUNED_LEVEL: i32 = 3;
/// Level 3 with smaller tables, which stay in a core's own cache: a sixth less time for 1.9 % more bytes of the
/// closure in docs/benchmarks.md, still fewer than niks3 1.7 stores.
const LEVEL_3: [CParameter; 3] = [CParameter::HashLog(16), CParameter::ChainLog(14), CParameter::MinMatch(5)];

/// Contexts that nobody uses at the moment.
#[derive(Clone, Default)]
pub(super) struct Contexts(Arc<Mutex<Vec<CCtx<'static>>>>);

impl Contexts {
    /// Compresses `size` bytes to `out`, on so many threads of zstd's own; none where that is `None`.
    pub(super) fn encoder<W: Write>(
        &self,
        out: W,
        level: i32,
        size: u64,
        workers: Option<u32>,
    ) -> io::Result<Encoder<W>> {
        // Workers keep their buffers: a context that had them is not used again.
        let spare = workers.is_none().then(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).pop());
        let mut context = spare.flatten().or_else(CCtx::try_create).ok_or(io::ErrorKind::OutOfMemory)?;
        checked(context.reset(ResetDirective::SessionAndParameters))?;
        checked(context.set_parameter(CParameter::CompressionLevel(level)))?;
        if level == TUNED_LEVEL {
            for parameter in LEVEL_3 {
                checked(context.set_parameter(parameter))?;
            }
        }
        checked(context.set_pledged_src_size(Some(size)))?;
        if let Some(workers) = workers {
            checked(context.set_parameter(CParameter::NbWorkers(workers.min(MAX_WORKERS))))?;
            checked(context.set_parameter(CParameter::JobSize(WORKER_BYTES)))?;
        }
        let home = workers.is_none().then(|| self.clone());
        Ok(Encoder { context, home, full: Vec::with_capacity(OUT), out })
    }
}

/// One frame of zstd.
pub(super) struct Encoder<W> {
    pub(super) context: CCtx<'static>,
    home: Option<Contexts>,
    full: Vec<u8>,
    out: W,
}

impl<W: Write> Encoder<W> {
    /// Ends the frame; gives what it was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        loop {
            let left = checked(self.context.end_stream(&mut OutBuffer::around(&mut self.full)))?;
            self.hand_on()?;
            if left == 0 {
                break;
            }
        }
        if let Some(Contexts(contexts)) = self.home.filter(|_| self.context.sizeof() <= LARGE) {
            contexts.lock().unwrap_or_else(PoisonError::into_inner).push(self.context);
        }
        Ok(self.out)
    }

    fn hand_on(&mut self) -> io::Result<()> {
        self.out.write_all(&self.full)?;
        self.full.clear();
        Ok(())
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut input = InBuffer::around(bytes);
        while input.pos() < bytes.len() {
            checked(self.context.compress_stream(&mut OutBuffer::around(&mut self.full), &mut input))?;
            self.hand_on()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn checked(result: SafeResult) -> io::Result<usize> {
    result.map_err(|code| io::Error::other(get_error_name(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text that repeats itself a little, of any size.
    fn text(size: usize) -> Vec<u8> {
        (0_u32..)
            .flat_map(|number| format!("{} line {number}\n", number % 97).into_bytes())
            .take(size)
            .collect()
    }

    #[test]
    fn a_context_is_used_again_and_its_frames_are_whole() {
        let contexts = Contexts::default();
        for (size, workers) in [(0, None), (10 << 20, None), (9, None), (300_000, Some(2)), (300_000, None)] {
            let plain = text(size);
            let mut encoder = contexts.encoder(Vec::new(), 3, size as u64, workers).unwrap();
            plain.chunks(70_001).for_each(|chunk| encoder.write_all(chunk).unwrap());
            let frame = encoder.finish().unwrap();
            assert!(zstd::decode_all(frame.as_slice()).unwrap() == plain, "{size} bytes");
            assert_eq!(contexts.0.lock().unwrap().len(), 1);
        }
    }

    #[test]
    fn other_than_the_pledged_size_is_refused() {
        let contexts = Contexts::default();
        for size in [9, 11] {
            let mut encoder = contexts.encoder(Vec::new(), 3, size, None).unwrap();
            let result = encoder.write_all(&[7; 10]).and_then(|()| encoder.finish());
            assert!(result.is_err(), "{size}");
        }
        assert!(contexts.0.lock().unwrap().is_empty(), "a context in doubt is not used again");
    }

    #[test]
    fn every_level_is_taken() {
        for level in 1..=19 {
            let mut encoder = Contexts::default().encoder(Vec::new(), level, 1000, None).unwrap();
            encoder.write_all(&text(1000)).unwrap();
            assert!(zstd::decode_all(encoder.finish().unwrap().as_slice()).unwrap() == text(1000), "{level}");
        }
    }
}
