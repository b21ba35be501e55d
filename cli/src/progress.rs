//! How far a push is: a bar on a terminal, a calm line now and then otherwise.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::printer::{Printer, bytes};

/// Between two lines where there is no terminal.
const LINE_PAUSE: Duration = Duration::from_secs(10);

/// Counts bytes of NARs read, which is what the plan promised.
pub(crate) struct Progress {
    bar: ProgressBar,
    lines: Option<Printer>,
    total: AtomicU64,
    done: AtomicU64,
    sent: AtomicU64,
    kept: AtomicU64,
    last_line: Mutex<Instant>,
}

impl Progress {
    pub(crate) fn new(printer: Printer, no_bar: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !no_bar && !printer.is_quiet();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let template = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self {
            bar: ProgressBar::with_draw_target(Some(0), target).with_style(style),
            lines: (!terminal).then_some(printer),
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            last_line: Mutex::new(Instant::now()),
        }
    }

    /// So many more bytes of NARs are to be read from now on.
    pub(crate) fn expect(&self, count: u64) {
        let total = self.done.load(Ordering::Relaxed) + count;
        self.total.store(total, Ordering::Relaxed);
        self.bar.set_length(total);
    }

    /// So many more bytes of NARs were read.
    pub(crate) fn read(&self, count: u64) {
        self.bar.inc(count);
        let done = self.done.fetch_add(count, Ordering::Relaxed) + count;
        let Some(printer) = self.lines else { return };
        if let Ok(mut last) = self.last_line.try_lock()
            && last.elapsed() >= LINE_PAUSE
        {
            *last = Instant::now();
            printer.say(&format!("{} of {} read", bytes(done), bytes(self.total.load(Ordering::Relaxed))));
        }
    }

    /// Lets a line be written without the bar in its way.
    pub(crate) fn pause(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    /// So many more bytes went to S3.
    pub(crate) fn sent(&self, count: u64) {
        self.sent.fetch_add(count, Ordering::Relaxed);
    }

    /// So many bytes were at S3 already, from an interrupted push.
    pub(crate) fn kept(&self, count: u64) {
        self.kept.fetch_add(count, Ordering::Relaxed);
    }

    /// Ends the bar; gives the bytes that went to S3, and those that were there.
    pub(crate) fn finish(&self) -> (u64, u64) {
        self.bar.finish_and_clear();
        (self.sent.load(Ordering::Relaxed), self.kept.load(Ordering::Relaxed))
    }
}
