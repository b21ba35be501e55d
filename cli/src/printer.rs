//! The only place that writes to the terminal: standard output is data, standard error is for people.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

/// Whether a group of GitHub's log is open: there is one log, whatever number of printers.
static GROUP: AtomicBool = AtomicBool::new(false);

/// Where messages go.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub(crate) struct Printer {
    quiet: bool,
    /// Annotations and groups, as GitHub Actions reads them.
    github: bool,
    color: bool,
    /// Objects on standard output.
    json: bool,
}

impl Printer {
    pub(crate) fn new(quiet: bool, json: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let color = std::io::stderr().is_terminal()
            && !set("NO_COLOR")
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let github = std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true");
        Self { quiet, github, color, json }
    }

    /// Whether only failures are said.
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Whether what is said may be coloured.
    pub(crate) fn has_color(self) -> bool {
        self.color
    }

    /// Data. A reader who left is no failure of ours.
    #[expect(clippy::unused_self, reason = "what prints has a printer")]
    pub(crate) fn data(self, text: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// One object a line, where that was asked for.
    pub(crate) fn object(self, object: &impl Serialize) {
        if self.json
            && let Ok(text) = serde_json::to_string(object)
        {
            self.data(&text);
        }
    }

    /// A line for people.
    pub(crate) fn say(self, text: &str) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// What follows is folded in GitHub's log, until the end of the group or a failure.
    pub(crate) fn open_group(self, title: &str) {
        if self.github && !self.quiet && !GROUP.swap(true, Ordering::Relaxed) {
            self.say(&format!("::group::{title}"));
        }
    }

    pub(crate) fn close_group(self) {
        if GROUP.swap(false, Ordering::Relaxed) {
            self.say("::endgroup::");
        }
    }

    /// Something that went wrong and is no failure.
    pub(crate) fn warn(self, text: &str) {
        self.annotate("warning", "33", text);
    }

    /// An error with what caused it on one line, and what to do on another.
    pub(crate) fn fail(self, error: &dyn std::error::Error, hint: Option<&str>) {
        self.close_group();
        self.annotate("error", "31", &chain(error));
        if let Some(hint) = hint {
            let _ = writeln!(std::io::stderr().lock(), "hint: {hint}");
        }
    }

    fn annotate(self, level: &str, color: &str, text: &str) {
        let mut out = std::io::stderr().lock();
        let _ = if self.github {
            writeln!(out, "::{level} title=niks3::{}", text.replace('%', "%25"))
        } else if self.color {
            writeln!(out, "\x1b[1;{color}m{level}:\x1b[0m {text}")
        } else {
            writeln!(out, "{level}: {text}")
        };
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
    line.replace(['\n', '\r'], " ")
}

/// `1 path`, `2 paths`
pub(crate) fn paths(count: usize) -> String {
    format!("{count} path{}", if count == 1 { "" } else { "s" })
}

/// `1.2 MiB`
pub(crate) fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}
