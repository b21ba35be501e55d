//! What happened, as one line of JSON each: what one reads when a run found something.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::plan::Plan;

/// What has to happen in a run for it to prove anything.
const LEAST: [(&str, u64); 8] = [
    ("push acknowledged", 20),
    ("collection", 10),
    ("late delete", 1),
    ("lost answer", 3),
    ("server killed", 2),
    ("closure read", 3),
    ("judged", 10),
    ("held", 3),
];

/// A file of events, and how many of each kind there were.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: BufWriter<File>,
    counts: BTreeMap<String, u64>,
}

impl History {
    /// A new file, which begins with what it takes to run the same again.
    pub fn create(path: &Path, plan: &Plan) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("the history {}", path.display()))?;
        let mut file = BufWriter::new(file);
        writeln!(file, "{}", serde_json::to_string(plan)?)?;
        let inner = Mutex::new(Inner { file, counts: BTreeMap::new() });
        Ok(Self { path: path.to_owned(), started: Instant::now(), inner })
    }

    /// The plan of a history.
    pub fn plan_of(path: &Path) -> anyhow::Result<Plan> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("the history {}", path.display()))?;
        let first = text.lines().next().unwrap_or_default();
        serde_json::from_str(first).with_context(|| format!("the first line of {}", path.display()))
    }

    /// Writes an event: who did what, and what came of it. A full disk must not end a run that found something.
    pub fn note(&self, who: &str, what: &str, more: &Value) {
        let at = self.started.elapsed().as_millis();
        let line = json!({ "ms": at, "who": who, "what": what, "more": more });
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(inner.file, "{line}");
        *inner.counts.entry(what.to_owned()).or_default() += 1;
    }

    /// What has to happen yet before a run proves anything.
    pub fn too_little(&self) -> Vec<String> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |what: &str| inner.counts.get(what).copied().unwrap_or(0);
        LEAST
            .into_iter()
            .filter(|(what, least)| count(what) < *least)
            .map(|(what, least)| format!("{what:?} {} times, not {least}", count(what)))
            .collect()
    }

    /// Everything that happened, and how often.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }

    /// Where it stands, all written.
    pub fn close(&self) -> PathBuf {
        let _ = self.inner.lock().unwrap_or_else(PoisonError::into_inner).file.flush();
        self.path.clone()
    }
}
