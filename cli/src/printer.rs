//! The only place that writes to the terminal: standard output is data, standard error is for people.

use std::io::Write as _;

/// Where messages go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    quiet: bool,
}

impl Printer {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// Whether only failures are said.
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Data. A reader who left is no failure of ours.
    #[expect(clippy::unused_self, reason = "what prints has a printer")]
    pub(crate) fn data(self, text: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// A line for people.
    pub(crate) fn say(self, text: &str) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// Something that went wrong and is no failure.
    #[expect(clippy::unused_self, reason = "what prints has a printer")]
    pub(crate) fn warn(self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "warning: {text}");
    }

    /// An error with what caused it on one line, and what to do on another.
    #[expect(clippy::unused_self, reason = "what prints has a printer")]
    pub(crate) fn fail(self, error: &dyn std::error::Error, hint: Option<&str>) {
        let mut out = std::io::stderr().lock();
        let _ = writeln!(out, "error: {}", chain(error));
        if let Some(hint) = hint {
            let _ = writeln!(out, "hint: {hint}");
        }
    }
}

/// An error with what caused it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line.replace('\n', " ")
}

/// `1 path`, `2 paths`
pub(crate) fn paths(count: usize) -> String {
    format!("{count} path{}", if count == 1 { "" } else { "s" })
}

/// `1.2 MiB`
pub(crate) fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}
