//! A tar.gz in memory: a report is a few megabytes, and a file that is half there helps nobody.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

/// Files on their way into a tar.gz.
pub(super) struct Archive {
    tar: Builder<GzEncoder<Vec<u8>>>,
    files: usize,
}

impl Archive {
    pub(super) fn new() -> Self {
        Self { tar: Builder::new(GzEncoder::new(Vec::new(), Compression::default())), files: 0 }
    }

    pub(super) fn files(&self) -> usize {
        self.files
    }

    pub(super) fn add(&mut self, path: &str, text: &str) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        self.tar.append_data(&mut header, format!("niks3-report/{path}"), text.as_bytes())?;
        self.files += 1;
        Ok(())
    }

    /// The bytes of the file; what is missing stands in it too.
    pub(super) fn finish(mut self, gaps: &[String]) -> io::Result<Vec<u8>> {
        if !gaps.is_empty() {
            self.add("gaps.txt", &format!("{}\n", gaps.join("\n")))?;
        }
        let mut gzip = self.tar.into_inner()?;
        gzip.flush()?;
        gzip.finish()
    }
}
