//! Pure: what a reconciliation found out about a policy, as conditions that sum up over its caches.

use crate::crd::GCPolicy;
use crate::crd::conditions::{ConditionType, Finding, Reason, Verdict};
use crate::crd::gc_policy::{CollectedCache, FsckResult, GCMode, LastFsck, LastRun, RunResult};

use super::last_fsck;
use super::report::Outcome;
use super::validate::{Validated, listed, prefix, refused, taken};

/// One finding for each condition of a policy.
pub(super) fn findings(policy: &GCPolicy, outcome: &Outcome<'_>, caches: &[CollectedCache]) -> Vec<Finding> {
    let (accepted, resolved) = (ConditionType::Accepted, ConditionType::CachesResolved);
    let error = outcome.applied.error.as_ref();
    let refused = error.and_then(refused);
    let mut findings = match (outcome.valid, &refused) {
        (Err(invalid), _) | (_, Some(invalid)) if invalid.about == accepted => vec![
            Finding::no(accepted, invalid.reason, &invalid.message),
            Finding::unknown(resolved, invalid.reason, "the spec is not carried out"),
        ],
        (Err(invalid), _) => vec![
            Finding::yes(accepted, Reason::Accepted, "the spec can be carried out"),
            Finding::no(invalid.about, invalid.reason, &invalid.message),
        ],
        (Ok(valid), _) => vec![accepted_for(valid), collected(valid, outcome)],
    };
    let mut ready = Finding::summary(&findings, &[accepted, resolved], "collections are scheduled");
    if let Ok(valid) = outcome.valid
        && ready.verdict == Verdict::True
    {
        ready = unless_suspended(ready, policy, valid);
    }
    if let (Some(error), None) = (error, &refused) {
        ready = Finding::no(ConditionType::Ready, error.reason(), error.sentence());
    }
    findings.push(ready);
    let each = |finding: fn(&CollectedCache) -> Finding| -> Vec<(String, Finding)> {
        caches.iter().map(|cache| (prefix(policy, &cache.name), finding(cache))).collect()
    };
    let about = ConditionType::LastRunSucceeded;
    let runs = each(|cache| judged(ConditionType::LastRunSucceeded, cache.last_run.as_ref()));
    findings.push(together(runs).unwrap_or_else(|| judged(about, None)));
    if policy.spec.fsck.is_some() || caches.iter().any(|cache| cache.last_fsck.is_some()) {
        let comparisons = each(|cache| compared(cache.last_fsck.as_ref()));
        findings.push(together(comparisons).unwrap_or_else(|| compared(None)));
    }
    findings
}

fn accepted_for(valid: &Validated) -> Finding {
    let about = ConditionType::Accepted;
    match valid.trouble(about) {
        Some(invalid) => {
            let message = format!("{}; its other caches are collected", invalid.message);
            Finding::no(about, invalid.reason, message)
        }
        None => Finding::yes(about, Reason::Accepted, "the spec can be carried out"),
    }
}

fn collected(valid: &Validated, outcome: &Outcome<'_>) -> Finding {
    let about = ConditionType::CachesResolved;
    let names = listed(valid.caches.iter().map(|valid| valid.cache.clone()), ", ");
    let mut said = match valid.caches.len() {
        1 => format!("BinaryCache {names} is collected"),
        count => format!("{count} BinaryCaches are collected: {names}"),
    };
    if !outcome.observed.taken.is_empty() {
        said = format!("{said}; other policies collect {}", taken(outcome.observed));
    }
    match valid.trouble(about) {
        Some(invalid) => Finding::no(about, invalid.reason, format!("{}; {said}", invalid.message)),
        None => Finding::yes(about, Reason::Resolved, said),
    }
}

/// Where no collection is begun of any cache, that is not what people expect of a policy that is ready.
fn unless_suspended(ready: Finding, policy: &GCPolicy, valid: &Validated) -> Finding {
    let why: Vec<String> = valid.caches.iter().filter_map(|valid| valid.suspended.clone()).collect();
    let all = why.len() == valid.caches.len();
    let said = match why.first() {
        None => return ready,
        Some(first) if policy.spec.suspend => first.clone(),
        Some(_) => listed(why.into_iter(), "; "),
    };
    if all {
        return Finding::no(ConditionType::Ready, Reason::Suspended, said);
    }
    Finding { message: format!("{}; {said}", ready.message), ..ready }
}

/// What was found of each cache as one: the worst speaks. That some have nothing to tell yet is no news where others
/// have.
fn together(each: Vec<(String, Finding)>) -> Option<Finding> {
    let weight = |finding: &Finding| match finding.verdict {
        Verdict::False => 0,
        Verdict::Unknown if finding.reason != Reason::NeverRan.as_str() => 1,
        Verdict::True => 2,
        Verdict::Unknown => 3,
    };
    let worst = each.iter().map(|(_, finding)| weight(finding)).min()?;
    let worst: Vec<(String, Finding)> =
        each.into_iter().filter(|(_, finding)| weight(finding) == worst).collect();
    let (_, first) = worst.first()?.clone();
    if first.reason == Reason::NeverRan.as_str() {
        return Some(first);
    }
    let messages: Vec<String> =
        worst.into_iter().map(|(prefix, finding)| format!("{prefix}{}", finding.message)).collect();
    Some(Finding { message: listed(messages.into_iter(), "; "), ..first })
}

/// What the last collection of a cache says.
pub(super) fn judged(about: ConditionType, run: Option<&LastRun>) -> Finding {
    match run {
        None => Finding::unknown(about, Reason::NeverRan, "no collection has ended yet"),
        Some(run) if run.result == RunResult::Succeeded => {
            Finding::yes(about, Reason::Succeeded, sentence(run))
        }
        Some(run) if run.reason.as_deref() == Some("SafetyLimitReached") => {
            Finding::no(about, Reason::SafetyLimitReached, sentence(run))
        }
        Some(run) => Finding::no(about, Reason::GCFailed, sentence(run)),
    }
}

/// What the last comparison of bucket and database says of them.
fn compared(fsck: Option<&LastFsck>) -> Finding {
    let about = ConditionType::LastFsckClean;
    let Some(fsck) = fsck else {
        return Finding::unknown(about, Reason::NeverRan, "no comparison has ended yet");
    };
    let said = last_fsck::sentence(fsck);
    match fsck.result {
        FsckResult::Clean => Finding::yes(about, Reason::Succeeded, said),
        FsckResult::Damaged => Finding::no(about, Reason::DamageFound, said),
        FsckResult::Failed if fsck.reason.as_deref() == Some("SafetyLimitReached") => {
            Finding::no(about, Reason::SafetyLimitReached, said)
        }
        FsckResult::Failed => Finding::unknown(about, Reason::FsckFailed, said),
    }
}

/// A run in one sentence.
pub(super) fn sentence(run: &LastRun) -> String {
    match (run.result, &run.message) {
        (RunResult::Failed, message) => {
            format!("Job {} failed: {}", run.job_name, message.as_deref().unwrap_or("no reason is known"))
        }
        (RunResult::Succeeded, message) if run.mode == Some(GCMode::DryRun) => format!(
            "Job {}, a dry run: {} closures would expire, {} objects go ({} bytes at once); {}",
            run.job_name,
            run.closures_deleted.unwrap_or(0),
            run.objects_marked.unwrap_or(0),
            run.bytes_freed.unwrap_or(0),
            message.as_deref().unwrap_or_default(),
        ),
        (RunResult::Succeeded, _) => format!(
            "Job {}: {} closures expired, {} objects marked, {} deleted ({} bytes)",
            run.job_name,
            run.closures_deleted.unwrap_or(0),
            run.objects_marked.unwrap_or(0),
            run.objects_deleted.unwrap_or(0),
            run.bytes_freed.unwrap_or(0),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(verdict: Verdict, reason: Reason) -> Finding {
        let finding = Finding::yes(ConditionType::LastRunSucceeded, reason, reason.as_str());
        Finding { verdict, ..finding }
    }

    #[test]
    fn of_many_caches_the_worst_speaks_and_names_itself() {
        let all = [
            found(Verdict::Unknown, Reason::NeverRan),
            found(Verdict::True, Reason::Succeeded),
            found(Verdict::False, Reason::SafetyLimitReached),
            found(Verdict::False, Reason::GCFailed),
            found(Verdict::Unknown, Reason::FsckFailed),
        ];
        let said = |wanted: &[usize]| {
            let each = wanted.iter().map(|at| (format!("{at}: "), all[*at].clone())).collect();
            together(each).map(|one| format!("{}/{}: {}", one.verdict.as_str(), one.reason, one.message))
        };
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[0, 0]).unwrap(), "Unknown/NeverRan: NeverRan");
        assert_eq!(said(&[0, 1, 1]).unwrap(), "True/Succeeded: 1: Succeeded; 1: Succeeded");
        assert_eq!(said(&[0, 1, 4]).unwrap(), "Unknown/FsckFailed: 4: FsckFailed");
        let both = "False/SafetyLimitReached: 2: SafetyLimitReached; 3: GCFailed";
        assert_eq!(said(&[0, 1, 2, 3, 4]).unwrap(), both);
        let many = said(&[3; 30]).unwrap();
        assert!(many.ends_with("3: GCFailed; and 20 more"), "{many}");
    }
}
