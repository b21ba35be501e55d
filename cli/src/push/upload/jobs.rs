//! What there is to send, and in which order.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use niks3_protocol::api::pending_closures::PendingObject;
use niks3_protocol::nix::StorePath;

use super::super::PushError;
use super::super::plan::{Plan, PlannedPath};

/// One thing to send.
pub(super) enum Job {
    /// A NAR, and its listing where that is missing too.
    Nar { path: StorePath, nar: PendingObject, listing: Option<PendingObject> },
    /// A listing whose NAR is there already.
    Listing { path: StorePath, listing: PendingObject },
    /// A build log.
    Log { path: StorePath, file: PathBuf, log: PendingObject },
}

/// The jobs, the largest NAR first. Of paths with equal content one sends the NAR.
pub(super) fn jobs(plan: &Plan, pending: &BTreeMap<String, PendingObject>) -> Result<Vec<Job>, PushError> {
    let mut planned: Vec<&PlannedPath> = plan.paths.values().collect();
    planned.sort_unstable_by(|a, b| (b.info.nar_size, &a.info.path).cmp(&(a.info.nar_size, &b.info.path)));
    let mut jobs = Vec::new();
    let mut known = HashSet::new();
    for PlannedPath { info, narinfo, nar, listing, log } in planned {
        let path = info.path.clone();
        let first = known.insert(nar);
        let listing_pending = pending.get(listing).cloned();
        match (pending.get(nar).filter(|_| first), listing_pending) {
            (Some(nar), listing) => {
                jobs.push(Job::Nar { path: path.clone(), nar: nar.clone(), listing });
            }
            (None, Some(listing)) => jobs.push(Job::Listing { path: path.clone(), listing }),
            (None, None) => {}
        }
        if let Some((key, file)) = log
            && known.insert(key)
            && let Some(log) = pending.get(key)
        {
            jobs.push(Job::Log { path, file: file.clone(), log: log.clone() });
        }
        known.extend([narinfo, listing]);
    }
    // A key nobody of this closure has could never be uploaded, and the commit would fail late.
    match pending.keys().find(|key| !known.contains(key)) {
        Some(key) => Err(PushError::Unexpected(key.clone())),
        None => Ok(jobs),
    }
}
