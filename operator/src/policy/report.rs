//! Writes the status of a policy, and events about what changed.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use kube::runtime::events::EventType;

use crate::apply::ApplyError;
use crate::context::Context;
use crate::crd::conditions::{self, ConditionType, Finding, Reason, Verdict};
use crate::crd::gc_policy::{
    CollectedCache, FsckResult, GCMode, LastFsck, LastRun, RUN_NOW, RunNow, RunResult,
};
use crate::crd::{GCPolicy, GCPolicyStatus};
use crate::labels::Names;
use crate::status;

use super::last_fsck::{self, last_fsck};
use super::last_run::last_run;
use super::observe::Observed;
use super::run_now::Request;
use super::validate::{Invalid, ValidPolicy, refused};

pub use crate::status::ReportError;

/// Everything a policy depends on is watched; this is for what a watch might have lost.
pub fn resync(context: &Context) -> Duration {
    context.resync.saturating_mul(2)
}

/// What a reconciliation found out.
pub struct Outcome<'a> {
    /// What there was.
    pub observed: &'a Observed,
    /// What the spec became.
    pub valid: &'a Result<ValidPolicy, Invalid>,
    /// What the annotation asks for.
    pub run_now: &'a Request,
    /// Why the children could not be written.
    pub error: Option<&'a ApplyError>,
}

/// Writes what is new about a policy. Gives back when to look again.
pub async fn report(
    policy: &GCPolicy,
    outcome: &Outcome<'_>,
    context: &Context,
) -> Result<Duration, ReportError> {
    let old = policy.status.clone().unwrap_or_default();
    let new = next(policy, &old, outcome, Timestamp::now());
    if new != old {
        status::write(context, policy, &new).await?;
    }
    context.metrics.stands("GCPolicy", &policy.metadata, &new.conditions);
    let reference = policy.object_ref(&());
    if new.run_now != old.run_now
        && let Some((kind, reason, note)) = new.run_now.as_ref().and_then(|told| asked(outcome.run_now, told))
    {
        status::publish(context, &reference, kind, reason, &note).await;
    }
    for condition in conditions::changed(&old.conditions, &new.conditions) {
        if ![ConditionType::LastRunSucceeded, ConditionType::LastFsckClean]
            .iter()
            .any(|told_below| told_below.as_str() == condition.type_)
        {
            status::publish_condition(context, &reference, condition).await;
        }
    }
    for cache in &new.caches {
        let Some(run) = &cache.last_run else { continue };
        let told = old
            .caches
            .iter()
            .any(|before| before.last_run.as_ref().is_some_and(|b| b.job_name == run.job_name));
        if !told {
            let (kind, reason) = match run.result {
                RunResult::Succeeded => (EventType::Normal, "GCSucceeded"),
                RunResult::Failed => (EventType::Warning, "GCFailed"),
            };
            status::publish(context, &reference, kind, reason, &sentence(run)).await;
        }
    }
    for fsck in new.caches.iter().filter_map(|cache| cache.last_fsck.as_ref()) {
        let known = old.caches.iter().filter_map(|cache| cache.last_fsck.as_ref());
        if !known.into_iter().any(|before| before.job_name == fsck.job_name) {
            let (kind, reason) = match fsck.result {
                FsckResult::Clean => (EventType::Normal, "FsckSucceeded"),
                FsckResult::Damaged => (EventType::Warning, "DamageFound"),
                FsckResult::Failed => (EventType::Warning, "FsckFailed"),
            };
            status::publish(context, &reference, kind, reason, &last_fsck::sentence(fsck)).await;
        }
    }
    Ok(match outcome.run_now {
        // With what is left of a second, it would come too early.
        Request::Later(_, wait) => {
            resync(context).min(Duration::from_secs(wait.as_secs().unsigned_abs() + 1))
        }
        _ => resync(context),
    })
}

/// The event about the annotation.
fn asked(request: &Request, told: &RunNow) -> Option<(EventType, &'static str, String)> {
    match (request, &told.job_name, &told.message) {
        (_, Some(job), _) => {
            Some((EventType::Normal, "GCStarted", format!("made Job {job}, as {RUN_NOW} asks")))
        }
        (Request::Refused(_), _, Some(why)) => {
            Some((EventType::Warning, "RunNowRefused", format!("{RUN_NOW}: {why}")))
        }
        _ => None,
    }
}

fn next(policy: &GCPolicy, old: &GCPolicyStatus, outcome: &Outcome<'_>, now: Timestamp) -> GCPolicyStatus {
    let Outcome { observed, valid, run_now, error } = *outcome;
    let name = policy.spec.cache_ref.as_ref().map(|cache| cache.name.clone()).unwrap_or_default();
    let known = old.caches.iter().find(|cache| cache.name == name);
    let before = known.and_then(|cache| cache.last_run.clone());
    let fsck_before = known.and_then(|cache| cache.last_fsck.clone());
    // Jobs are deleted after a while; what they did stays known.
    let run = observed.last_job.as_ref().and_then(|(job, pods)| last_run(job, pods)).or(before);
    let fsck = observed.last_fsck.as_ref().and_then(|(job, pods)| last_fsck(job, pods)).or(fsck_before);
    let mut findings = findings(valid, error, run.as_ref());
    if policy.spec.fsck.is_some() || fsck.is_some() {
        findings.push(compared(fsck.as_ref()));
    }
    let generation = policy.metadata.generation;
    let succeeded = run.as_ref().filter(|run| run.result == RunResult::Succeeded);
    GCPolicyStatus {
        observed_generation: generation,
        run_now: match (run_now, error) {
            // The Job may not be there.
            (Request::Due(..), Some(_)) => old.run_now.clone(),
            _ => run_now.told().cloned(),
        },
        matched_caches: Some(i32::from(valid.is_ok())),
        last_successful_time: succeeded
            .and_then(|run| run.finished_at.clone())
            .or_else(|| old.last_successful_time.clone()),
        caches: match valid {
            Ok(valid) => {
                let cron_job_name = Names(&valid.cache).gc();
                vec![CollectedCache { cron_job_name, name, last_run: run, last_fsck: fsck }]
            }
            Err(_) => old.caches.clone(),
        },
        conditions: conditions::next(&old.conditions, &findings, generation, now),
    }
}

fn findings(
    valid: &Result<ValidPolicy, Invalid>,
    error: Option<&ApplyError>,
    run: Option<&LastRun>,
) -> Vec<Finding> {
    let (accepted, resolved) = (ConditionType::Accepted, ConditionType::CachesResolved);
    let refused = error.and_then(refused);
    let mut findings = match (valid, &refused) {
        (Err(invalid), _) | (_, Some(invalid)) if invalid.about == accepted => vec![
            Finding::no(accepted, invalid.reason, &invalid.message),
            Finding::unknown(resolved, invalid.reason, "the spec is not carried out"),
        ],
        (Err(invalid), _) => vec![
            Finding::yes(accepted, Reason::Accepted, "the spec can be carried out"),
            Finding::no(invalid.about, invalid.reason, &invalid.message),
        ],
        (Ok(valid), _) => vec![
            Finding::yes(accepted, Reason::Accepted, "the spec can be carried out"),
            Finding::yes(resolved, Reason::Resolved, format!("BinaryCache {} is collected", valid.cache)),
        ],
    };
    let mut ready = Finding::summary(&findings, &[accepted, resolved], "collections are scheduled");
    if let Some(why) = valid.as_ref().ok().and_then(|valid| valid.suspended.as_deref())
        && ready.verdict == Verdict::True
    {
        ready = Finding::no(ConditionType::Ready, Reason::Suspended, why);
    }
    if let (Some(error), None) = (error, &refused) {
        ready = Finding::no(ConditionType::Ready, error.reason(), error.sentence());
    }
    findings.push(ready);
    let about = ConditionType::LastRunSucceeded;
    findings.push(match run {
        None => Finding::unknown(about, Reason::NeverRan, "no collection has ended yet"),
        Some(run) if run.result == RunResult::Succeeded => {
            Finding::yes(about, Reason::Succeeded, sentence(run))
        }
        Some(run) if run.reason.as_deref() == Some("SafetyLimitReached") => {
            Finding::no(about, Reason::SafetyLimitReached, sentence(run))
        }
        Some(run) => Finding::no(about, Reason::GCFailed, sentence(run)),
    });
    findings
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
fn sentence(run: &LastRun) -> String {
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
