//! Writes the status of a policy, and events about what changed.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use kube::runtime::events::EventType;

use crate::context::Context;
use crate::crd::conditions::{self, ConditionType};
use crate::crd::gc_policy::{CollectedCache, FsckResult, RUN_NOW, RunNow, RunResult};
use crate::crd::{GCPolicy, GCPolicyStatus};
use crate::labels::Names;
use crate::status;

use super::apply::Applied;
use super::findings::{findings, sentence};
use super::last_fsck::{self, last_fsck};
use super::last_run::last_run;
use super::observe::{Found, Observed};
use super::run_now::{Request, jobs};
use super::schedule;
use super::validate::{Invalid, Validated, listed, prefix};

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
    pub valid: &'a Result<Validated, Invalid>,
    /// What the annotation asks for.
    pub run_now: &'a Request,
    /// What became of the children.
    pub applied: &'a Applied,
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
        && let Some(told) = &new.run_now
        && let Some((kind, reason, note)) = asked(outcome.run_now, old.run_now.as_ref(), told)
    {
        status::publish(context, &reference, kind, reason, &note).await;
    }
    // Their ends are told by Job, below.
    let by_job = [ConditionType::LastRunSucceeded, ConditionType::LastFsckClean].map(ConditionType::as_str);
    for condition in conditions::changed(&old.conditions, &new.conditions) {
        if !by_job.contains(&condition.type_.as_str()) {
            status::publish_condition(context, &reference, condition).await;
        }
    }
    let before: Vec<End> = old.caches.iter().flat_map(ends).collect();
    for cache in &new.caches {
        for end in ends(cache).filter(|end| before.iter().all(|before| before.job != end.job)) {
            let note = format!("{}{}", prefix(policy, &cache.name), end.said);
            status::publish(context, &reference, end.kind, end.reason, &note).await;
        }
    }
    let asked = if let Request::Later(_, wait) = outcome.run_now { Some(*wait) } else { None };
    // Then there is another next run to tell of.
    let now = Timestamp::now();
    let runs = new.caches.iter().filter_map(|cache| cache.next_run.as_ref()?.parse::<Timestamp>().ok());
    let due = runs.map(|at| at.duration_since(now)).chain(asked).min();
    // With what is left of a second, it would come too early.
    let due = due.map(|wait| Duration::from_secs(wait.as_secs().max(0).unsigned_abs() + 1));
    Ok(resync(context).min(due.unwrap_or(Duration::MAX)))
}

/// The event about a Job that ended.
struct End<'a> {
    job: &'a str,
    kind: EventType,
    reason: &'static str,
    said: String,
}

/// What is known of the Jobs of a cache.
fn ends(cache: &CollectedCache) -> impl Iterator<Item = End<'_>> {
    let run = cache.last_run.as_ref().map(|run| {
        let (kind, reason) = match run.result {
            RunResult::Succeeded => (EventType::Normal, "GCSucceeded"),
            RunResult::Failed => (EventType::Warning, "GCFailed"),
        };
        End { job: &run.job_name, kind, reason, said: sentence(run) }
    });
    let fsck = cache.last_fsck.as_ref().map(|fsck| {
        let (kind, reason) = match fsck.result {
            FsckResult::Clean => (EventType::Normal, "FsckSucceeded"),
            FsckResult::Damaged => (EventType::Warning, "DamageFound"),
            FsckResult::Failed => (EventType::Warning, "FsckFailed"),
        };
        End { job: &fsck.job_name, kind, reason, said: last_fsck::sentence(fsck) }
    });
    run.into_iter().chain(fsck)
}

/// The event about the annotation.
fn asked(
    request: &Request,
    old: Option<&RunNow>,
    told: &RunNow,
) -> Option<(EventType, &'static str, String)> {
    let old = old.filter(|old| old.requested == told.requested).map(jobs).unwrap_or_default();
    let made: Vec<String> = jobs(told).into_iter().filter(|job| !old.contains(job)).cloned().collect();
    match (request, made.len(), &told.message) {
        (_, 1, _) => {
            Some((EventType::Normal, "GCStarted", format!("made Job {}, as {RUN_NOW} asks", made[0])))
        }
        (_, 2.., _) => {
            let note = format!("made Jobs {}, as {RUN_NOW} asks", listed(made.into_iter(), ", "));
            Some((EventType::Normal, "GCStarted", note))
        }
        (Request::Refused(_), _, Some(why)) => {
            Some((EventType::Warning, "RunNowRefused", format!("{RUN_NOW}: {why}")))
        }
        _ => None,
    }
}

fn next(policy: &GCPolicy, old: &GCPolicyStatus, outcome: &Outcome<'_>, now: Timestamp) -> GCPolicyStatus {
    let caches = caches(old, outcome, now);
    let findings = findings(policy, outcome, &caches);
    let generation = policy.metadata.generation;
    let runs = caches.iter().filter_map(|cache| cache.last_run.as_ref());
    let succeeded = runs.filter(|run| run.result == RunResult::Succeeded).map(|run| run.finished_at.clone());
    let collected = outcome.valid.as_ref().map_or(0, |valid| valid.caches.len());
    GCPolicyStatus {
        observed_generation: generation,
        run_now: run_now(old, outcome),
        matched_caches: i32::try_from(collected).ok(),
        // They are all written alike, so that the latest is the largest.
        last_successful_time: succeeded.max().flatten().max(old.last_successful_time.clone()),
        caches,
        conditions: conditions::next(&old.conditions, &findings, generation, now),
    }
}

/// The caches that the policy has, and what is known of each. What one that cannot be collected now did before stays
/// known.
fn caches(old: &GCPolicyStatus, outcome: &Outcome<'_>, now: Timestamp) -> Vec<CollectedCache> {
    let Outcome { observed, valid, applied, .. } = *outcome;
    let valid = valid.as_ref().map(|valid| valid.caches.as_slice()).unwrap_or_default();
    let entry = |found: &Found| {
        let known = old.caches.iter().find(|cache| cache.name == found.name);
        let valid = valid.iter().find(|valid| valid.cache == found.name);
        if valid.is_none() && known.is_none() {
            return None;
        }
        // Jobs are deleted after a while; what they did stays known.
        let run = found.last_job.as_ref().and_then(|(job, pods)| last_run(job, pods));
        let fsck = found.last_fsck.as_ref().and_then(|(job, pods)| last_fsck(job, pods));
        let scheduled = valid.filter(|valid| valid.suspended.is_none() && applied.error.is_none());
        let due = scheduled.and_then(|valid| schedule::next(&valid.schedule, &valid.time_zone, now));
        Some(CollectedCache {
            name: found.name.clone(),
            cron_job_name: Names(&found.name).gc(),
            next_run: due.map(status::timestamp),
            last_run: run.or_else(|| known?.last_run.clone()),
            last_fsck: fsck.or_else(|| known?.last_fsck.clone()),
        })
    };
    observed.caches.iter().filter_map(entry).collect()
}

/// What became of the annotation. Of a Job that could not be made it is not said that it was.
fn run_now(old: &GCPolicyStatus, outcome: &Outcome<'_>) -> Option<RunNow> {
    let (Request::Due(told, due), Some(error)) = (outcome.run_now, &outcome.applied.error) else {
        return outcome.run_now.told().cloned();
    };
    let begun = &outcome.applied.begun;
    if begun.is_empty() {
        return old.run_now.clone();
    }
    let mut told = told.clone();
    for once in due.iter().filter(|once| !begun.contains(&once.job_name)) {
        for cache in told.caches.iter_mut().filter(|cache| cache.name == once.cache) {
            (cache.job_name, cache.message) = (None, Some(error.sentence()));
        }
    }
    Some(told)
}
