//! Paths from standard input, one a line, pushed as they come: what arrives while a push runs is the next one.

use std::io::{self, BufRead as _};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver};

use crate::commands::CommandError;

/// Paths in one push at most.
const MOST: usize = 1000;
/// How long more lines are waited for once there is one.
const LINGER: Duration = Duration::from_millis(100);

pub(super) struct Batches {
    lines: Receiver<io::Result<String>>,
    over: bool,
}

impl Batches {
    pub(super) fn new() -> Self {
        let (sender, lines) = mpsc::channel(MOST);
        // A thread of its own: a read of standard input cannot be given up.
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines() {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines, over: false }
    }

    /// The next paths; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<PathBuf>>, CommandError> {
        let mut paths = Vec::new();
        while !self.over && paths.len() < MOST {
            let line = if paths.is_empty() {
                self.lines.recv().await
            } else {
                match tokio::time::timeout(LINGER, self.lines.recv()).await {
                    Ok(line) => line,
                    Err(_) => break,
                }
            };
            match line.transpose().map_err(CommandError::Stdin)? {
                Some(line) if line.trim().is_empty() => {}
                Some(line) => paths.push(PathBuf::from(line.trim())),
                None => self.over = true,
            }
        }
        Ok((!paths.is_empty()).then_some(paths))
    }
}
