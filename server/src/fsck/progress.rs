//! Where a run is, as its steps tell its heartbeat.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use niks3_protocol::api::fsck::{FsckFinding, FsckPhase, FsckStatus, FsckSummary};

use super::Sink;
use crate::runs::HEARTBEAT;

/// Findings that a run keeps; the summary counts all.
const KEPT: usize = 100;

/// Where a run is.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) phase: FsckPhase,
    pub(super) after: Option<String>,
    pub(super) summary: FsckSummary,
    pub(super) findings: Vec<FsckFinding>,
    /// Whether the row has not all of the findings.
    pub(super) is_new: bool,
}

impl State {
    pub(super) fn of(run: FsckStatus) -> Self {
        let FsckStatus { phase, after, summary, findings, .. } = run;
        match after {
            Some(_) => Self { phase, after, summary, findings, is_new: false },
            None => Self { phase, ..Self::default() },
        }
    }
}

/// What a run's steps tell its heartbeat.
#[derive(Debug, Clone)]
pub(super) struct Progress(pub(super) Arc<Mutex<State>>);

impl Progress {
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sink for Progress {
    fn find(&mut self, finding: FsckFinding) -> anyhow::Result<()> {
        let FsckFinding { kind, key, detail } = &finding;
        tracing::warn!(kind, key, detail, "fsck found something");
        self.change(|state| {
            if state.findings.len() < KEPT {
                state.findings.push(finding);
                state.is_new = true;
            }
        });
        Ok(())
    }

    fn reach(&mut self, after: &str, summary: &FsckSummary) {
        self.change(|state| {
            state.after = Some(after.to_owned());
            state.summary = *summary;
        });
    }

    fn pause(&self) -> Duration {
        HEARTBEAT
    }
}
