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

#[cfg(test)]
mod tests {
    use niks3_protocol::object_key::ObjectKind;

    use super::*;
    use crate::store::PathInfo;

    /// A path of that size, whose content is the same as that of others with this digit.
    fn path(digit: char, content: char, nar_size: u64) -> PathInfo {
        let hash = |digit: char, length| digit.to_string().repeat(length);
        PathInfo {
            path: format!("/nix/store/{}-{nar_size}", hash(digit, 32)).parse().unwrap(),
            nar_hash: format!("sha256:0{}", hash(content, 51)).parse().unwrap(),
            nar_size,
            references: Vec::new(),
            deriver: None,
            signatures: Vec::new(),
            ca: None,
        }
    }

    #[test]
    fn the_largest_goes_first_and_equal_content_once() {
        let paths = vec![path('1', '1', 5), path('2', '2', 50), path('3', '3', 20), path('4', '3', 20)];
        let plan = Plan::new(paths, &[]);
        let pending = |kind| PendingObject { kind, presigned_url: None, multipart_info: None };
        let mut missing = BTreeMap::new();
        for path in plan.paths.values() {
            missing.insert(path.nar.clone(), pending(ObjectKind::Nar));
            missing.insert(path.listing.clone(), pending(ObjectKind::Listing));
        }
        let said = jobs(&plan, &missing).unwrap().into_iter().map(|job| match job {
            Job::Nar { path, listing, .. } => format!("NAR {} {}", path.name(), listing.is_some()),
            Job::Listing { path, .. } => format!("listing {}", path.name()),
            Job::Log { .. } => "log".to_owned(),
        });
        let said: Vec<String> = said.collect();
        assert_eq!(said, ["NAR 50 true", "NAR 20 true", "listing 20", "NAR 5 true"]);

        missing.insert("nar/unknown.nar.zst".to_owned(), pending(ObjectKind::Nar));
        assert!(matches!(jobs(&plan, &missing), Err(PushError::Unexpected(key)) if key.contains("unknown")));
    }
}
