//! Writes the status, and events about what changed.

mod auth;
mod collections;
mod credentials;
mod events;
mod exposure;
mod figures;
mod findings;
mod keys;
mod resign;
mod volumes;
#[cfg(test)]
mod years;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::EventType;
use kube::{Resource as _, ResourceExt as _};

use crate::apply::ApplyError;
use crate::context::Context;
use crate::crd::conditions::{self, ConditionType, Finding, Reason, Verdict};
use crate::crd::{BinaryCache, BinaryCacheStatus};
use crate::labels::{Component, Names, selector_text};
use crate::{settled, status};

use super::apply::Applied;
use super::pods::Pods;
use super::probe::{Answer, PodKeys};
use super::validate::{Invalid, ValidCache};

pub use crate::status::ReportError;

/// One that publishes to other namespaces is looked at again after so long: namespaces are not watched.
const PUBLISH: Duration = Duration::from_mins(1);
/// A cache that is not well is looked at again after so long at first.
const RETRY: Duration = Duration::from_secs(5);
/// Of many that are not, each has a look in so long.
const EACH: Duration = Duration::from_millis(50);
/// And after so long when nothing has changed for a while.
const LATE_RETRY: Duration = Duration::from_mins(1);
/// The reason of a cache that stands still on purpose.
const SUSPENDED: &str = "Suspended";

/// What a reconciliation found out.
pub struct Outcome<'a> {
    /// What the spec became.
    pub valid: &'a Result<ValidCache, Invalid>,
    /// The children, where there are any.
    pub applied: Option<&'a Result<Applied, ApplyError>>,
    /// The pods, where there should be any.
    pub pods: &'a Pods,
    /// What the server says, where it could be there.
    pub probed: Option<&'a Result<Answer, String>>,
    /// Which keys each pod has in force, and whether issuers gave it theirs, where the pods are known.
    pub keys: Option<&'a [PodKeys]>,
}

/// Writes what is new about a cache. Gives back when to look again.
pub async fn report(
    cache: &BinaryCache,
    outcome: &Outcome<'_>,
    context: &Context,
) -> Result<Duration, ReportError> {
    let old = cache.status.clone().unwrap_or_default();
    let now = Timestamp::now();
    let resign = resign::progress(old.resign.as_ref(), outcome, now);
    let mut findings = findings::findings(outcome, resign.as_ref(), now);
    let collected = collections::look(cache, context);
    findings.extend(collected.finding);
    let last_gc = collected.last_gc;
    let new = BinaryCacheStatus { resign, last_gc, ..next(cache, &old, outcome, &findings, now) };
    if new != old {
        status::write(context, cache, &new).await?;
    }
    context.metrics.stands("BinaryCache", &cache.metadata, &new.conditions);
    let reference = cache.object_ref(&());
    let applied = outcome.applied.and_then(|applied| applied.as_ref().ok());
    let mut news = keys::events(&old, &new);
    if let (Some(applied), Ok(valid)) = (applied, outcome.valid) {
        news.extend(events::events(valid, applied, &old, &new));
        news.extend(credentials::events(valid));
    }
    for (reason, note) in news {
        status::publish(context, &reference, EventType::Normal, reason, &note).await;
    }
    for condition in conditions::changed(&old.conditions, &new.conditions) {
        let starting = condition.type_ == ConditionType::Available.as_str()
            && findings.iter().any(|f| f.about == ConditionType::Progressing && f.verdict == Verdict::True);
        let moves = [Reason::RotationInProgress, Reason::Resizing].map(Reason::as_str);
        let moves = moves.contains(&condition.reason.as_str());
        let calm = condition.type_ == ConditionType::Progressing.as_str()
            && (condition.status != Verdict::False.as_str() || condition.reason == Reason::Stable.as_str());
        // The policy has said it.
        let policys = condition.type_ == ConditionType::LastGCSucceeded.as_str();
        if !starting && !calm && !moves && !policys {
            status::publish_condition(context, &reference, condition).await;
        }
    }
    let well = findings
        .iter()
        .any(|f| f.about == ConditionType::Ready && (f.verdict == Verdict::True || f.reason == SUSPENDED));
    // Of a rollout that does not get on, the pods say why; they are not watched.
    let rolling =
        findings.iter().any(|f| f.about == ConditionType::Progressing && f.verdict == Verdict::True);
    if !waits(outcome) {
        context.rollouts.note(&settled::key_of::<BinaryCache>(&cache.metadata), rolling);
    }
    // Nor are claims and issuers.
    let grows = |f: &Finding| f.about == ConditionType::VolumesResized && f.verdict == Verdict::False;
    let grows = findings.iter().any(|f| grows(f) || auth::is_away(f));
    let published = findings.iter().any(|f| f.about == ConditionType::Published);
    let now = Timestamp::now();
    let due = outcome.valid.as_ref().ok().and_then(credentials::due);
    let due = due.map_or(Duration::MAX, |at| at.duration_since(now).try_into().unwrap_or(RETRY).max(RETRY));
    let taking = outcome.valid.as_ref().is_ok_and(|valid| keys::waits(&valid.signing, outcome.keys));
    Ok(due.min(match (well && !rolling && !grows && !taking, published) {
        (false, _) => retry(&new.conditions, context.rollouts.count(), now),
        (true, true) => context.resync.min(PUBLISH),
        (true, false) => context.resync,
    }))
}

fn waits(outcome: &Outcome<'_>) -> bool {
    matches!(outcome.applied, Some(Ok(applied)) if applied.waits)
}

/// What changed a moment ago may change again soon; the longer nothing does, the rarer is a look worth it. Where many
/// caches are being rolled out, none is looked at so often that the others wait.
fn retry(conditions: &[Condition], rolling: u32, now: Timestamp) -> Duration {
    let latest = conditions.iter().map(|condition| condition.last_transition_time.0).max().unwrap_or(now);
    let quiet = Duration::from_secs((now.as_second() - latest.as_second()).try_into().unwrap_or(0));
    (quiet / 10).max(EACH * rolling).clamp(RETRY, LATE_RETRY)
}

/// Says that the operator keeps its hands off; what was known before stays. Gives back when to look again.
pub async fn paused(cache: &BinaryCache, context: &Context) -> Result<Duration, ReportError> {
    let old = cache.status.clone().unwrap_or_default();
    let new = while_paused(&old, cache.metadata.generation, Timestamp::now());
    if new != old {
        status::write(context, cache, &new).await?;
    }
    let about = ConditionType::ReconciliationPaused.as_str();
    if conditions::changed(&old.conditions, &new.conditions).iter().any(|condition| condition.type_ == about)
    {
        let reference = cache.object_ref(&());
        status::publish(context, &reference, EventType::Normal, about, findings::PAUSED).await;
    }
    Ok(context.resync)
}

fn while_paused(old: &BinaryCacheStatus, generation: Option<i64>, now: Timestamp) -> BinaryCacheStatus {
    let known = |condition: &&Condition| {
        ConditionType::is_ours(&condition.type_)
            && condition.type_ != ConditionType::ReconciliationPaused.as_str()
    };
    let mut kept: Vec<Condition> = old.conditions.iter().filter(known).cloned().collect();
    let mut findings =
        vec![Finding::yes(ConditionType::ReconciliationPaused, Reason::SuspendReconcile, findings::PAUSED)];
    if conditions::find(&kept, ConditionType::Ready).is_none() {
        findings.push(Finding::unknown(ConditionType::Ready, Reason::SuspendReconcile, findings::PAUSED));
    }
    kept.extend(conditions::next(&old.conditions, &findings, generation, now));
    kept.sort_by(|a, b| a.type_.cmp(&b.type_));
    BinaryCacheStatus { observed_generation: generation, conditions: kept, ..old.clone() }
}

fn next(
    cache: &BinaryCache,
    old: &BinaryCacheStatus,
    outcome: &Outcome<'_>,
    findings: &[Finding],
    now: Timestamp,
) -> BinaryCacheStatus {
    let generation = cache.metadata.generation;
    let mut status = BinaryCacheStatus {
        observed_generation: generation,
        conditions: conditions::next(&old.conditions, findings, generation, now),
        selector: Some(selector_text(&cache.name_any(), Component::Server)),
        ..old.clone()
    };
    if let Ok(valid) = outcome.valid {
        status.url = Some(valid.url.clone());
        status.endpoint = Some(valid.endpoint.clone());
        status.auth_audience.clone_from(&valid.audience);
        status.client_config_map_name = Some(Names(&valid.name).client());
        keys::tell(&mut status, valid, outcome, now);
    }
    if let Some(Ok(applied)) = outcome.applied {
        let deployment = applied.deployment.status.as_ref();
        status.replicas = Some(deployment.and_then(|d| d.replicas).unwrap_or(0));
        status.ready_replicas = Some(deployment.and_then(|d| d.ready_replicas).unwrap_or(0));
    }
    if let Some(Ok(answer)) = outcome.probed {
        status.server_version = Some(answer.readiness.server_version.clone());
        auth::note(&mut status, outcome.valid.as_ref().ok(), &answer.readiness);
        if let Some(stats) = answer.stats.filter(|stats| figures::worth_telling(old, *stats, now)) {
            status.objects = Some(stats.objects);
            status.bytes = Some(stats.logical_bytes);
            status.size = Some(figures::size(stats.logical_bytes));
            status.stats_time = Some(status::timestamp(now));
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_keeps_what_was_known() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let before = BinaryCacheStatus {
            conditions: conditions::next(
                &[],
                &[Finding::yes(ConditionType::Ready, Reason::Ready, "well")],
                Some(1),
                at(1),
            ),
            ..BinaryCacheStatus::default()
        };
        let paused = while_paused(&before, Some(2), at(2));
        assert_eq!((paused.observed_generation, &paused.conditions[0]), (Some(2), &before.conditions[0]));
        assert_eq!(paused.conditions[1].type_, "ReconciliationPaused");
        assert_eq!(while_paused(&paused, Some(2), at(3)), paused, "said once");
        let fresh = while_paused(&BinaryCacheStatus::default(), Some(1), at(1));
        assert_eq!((&*fresh.conditions[0].type_, &*fresh.conditions[0].status), ("Ready", "Unknown"));
    }

    #[test]
    fn looks_become_rarer_while_nothing_changes() {
        let now = Timestamp::from_second(10_000).unwrap();
        let since = |second| {
            let at = Timestamp::from_second(second).unwrap();
            let finding = Finding::no(ConditionType::Ready, Reason::SecretNotFound, "no Secret");
            let conditions = conditions::next(&[], &[finding], None, at);
            [0, 200, 10_000].map(|rolling| retry(&conditions, rolling, now).as_secs())
        };
        assert_eq!([10_001, 10_000, 9_950, 9_700, 0].map(|at| since(at)[0]), [5, 5, 5, 30, 60]);
        assert_eq!(since(10_000), [5, 10, 60], "many have to share");
    }
}
