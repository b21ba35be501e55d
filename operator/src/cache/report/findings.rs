//! Pure: what a reconciliation found out, as conditions.

use k8s_openapi::api::apps::v1::Deployment;
use niks3_protocol::api::health::{Dependency, ReadinessCheck};

use crate::cache::apply::Applied;
use crate::cache::probe::Answer;
use crate::cache::validate::ValidCache;
use crate::crd::conditions::{ConditionType, Finding, Reason, Verdict};

use super::{Outcome, exposure};

/// What `Ready` sums up, the causes before their effects.
const PARTS: [ConditionType; 7] = [
    ConditionType::Accepted,
    ConditionType::ResolvedRefs,
    ConditionType::SigningKeysReady,
    ConditionType::DatabaseReady,
    ConditionType::StorageReady,
    ConditionType::Available,
    ConditionType::Exposed,
];

/// What is said while the operator keeps its hands off.
pub(super) const PAUSED: &str = "spec.suspend is Reconcile: the operator changes nothing";
/// What is said while the server stands still.
const SUSPENDED: &str = "spec.suspend is Server: no pod of the server runs";

/// One finding for each condition of a cache.
pub(super) fn findings(outcome: &Outcome<'_>) -> Vec<Finding> {
    let mut findings = match outcome.valid {
        Ok(valid) => {
            let mut findings = vec![
                Finding::yes(ConditionType::Accepted, Reason::Accepted, "the spec can be carried out"),
                references(valid),
                signing(valid),
            ];
            match outcome.applied {
                Some(Ok(applied)) => {
                    findings.extend(running(valid, applied, outcome.probed));
                    findings.extend(exposure::exposed(valid, applied));
                }
                Some(Err(error)) => findings.extend(unknown(Reason::ApplyFailed, &error.sentence())),
                None => findings.extend(unknown(Reason::Reconciling, "not looked at yet")),
            }
            findings
        }
        Err(invalid) => {
            let why = "the spec is not carried out";
            let mut findings = vec![
                Finding::no(ConditionType::Accepted, invalid.reason, &invalid.message),
                Finding::unknown(ConditionType::ResolvedRefs, invalid.reason, why),
                Finding::unknown(ConditionType::SigningKeysReady, invalid.reason, why),
            ];
            findings.extend(unknown(invalid.reason, why));
            findings
        }
    };
    let mut ready = Finding::summary(&findings, &PARTS, "the cache takes pushes and serves reads");
    if outcome.valid.as_ref().is_ok_and(|valid| valid.suspended) {
        ready = Finding::no(ConditionType::Ready, Reason::Suspended, SUSPENDED);
    }
    findings.push(ready);
    findings
}

fn unknown(reason: Reason, message: &str) -> [Finding; 4] {
    [
        ConditionType::DatabaseReady,
        ConditionType::StorageReady,
        ConditionType::Available,
        ConditionType::Progressing,
    ]
    .map(|about| Finding::unknown(about, reason, message))
}

fn references(valid: &ValidCache) -> Finding {
    let about = ConditionType::ResolvedRefs;
    let Some(first) = valid.missing.first() else {
        return Finding::yes(about, Reason::Resolved, "everything the spec refers to is there");
    };
    let messages: Vec<&str> = valid.missing.iter().map(|missing| missing.message.as_str()).collect();
    Finding::no(about, first.reason, messages.join("; "))
}

fn signing(valid: &ValidCache) -> Finding {
    let about = ConditionType::SigningKeysReady;
    match &valid.signing.key {
        Ok(key) => Finding::yes(about, Reason::Ready, format!("{} signs", key.name())),
        Err((reason, message)) => Finding::no(about, *reason, message),
    }
}

fn running(valid: &ValidCache, applied: &Applied, probed: Option<&Result<Answer, String>>) -> [Finding; 4] {
    let wanted = applied.deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let ready_pods = applied.deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let dependency = |about, name| match probed {
        _ if valid.suspended => Finding::unknown(about, Reason::Suspended, SUSPENDED),
        Some(Ok(answer)) => {
            let check = answer.readiness.checks.iter().find(|check| check.name == name);
            check.map_or_else(
                || Finding::unknown(about, Reason::ServerUnreachable, "the server does not say"),
                |check| answered(about, check),
            )
        }
        // A network policy may keep the operator from the pods; the kubelet asks them the same.
        Some(Err(_)) if ready_pods > 0 => {
            Finding::yes(about, Reason::ReportedByPods, format!("{ready_pods} pods say they are ready"))
        }
        Some(Err(why)) => Finding::unknown(about, Reason::ServerUnreachable, why),
        None => Finding::unknown(about, Reason::Reconciling, "not looked at yet"),
    };
    [
        dependency(ConditionType::DatabaseReady, Dependency::Database),
        dependency(ConditionType::StorageReady, Dependency::Storage),
        available(valid, ready_pods, wanted),
        progressing(wanted, &applied.deployment),
    ]
}

fn answered(about: ConditionType, check: &ReadinessCheck) -> Finding {
    if check.ok {
        return Finding::yes(about, Reason::Reachable, "the server reaches it");
    }
    Finding {
        about,
        verdict: Verdict::False,
        reason: check.reason.clone().into(),
        message: check.message.clone(),
    }
}

fn available(valid: &ValidCache, ready_pods: i32, wanted: i32) -> Finding {
    let message = format!("{ready_pods} of {wanted} pods are ready");
    if valid.suspended {
        Finding::no(ConditionType::Available, Reason::Suspended, SUSPENDED)
    } else if ready_pods > 0 {
        Finding::yes(ConditionType::Available, Reason::MinimumReplicasAvailable, message)
    } else {
        Finding::no(ConditionType::Available, Reason::MinimumReplicasUnavailable, message)
    }
}

fn progressing(wanted: i32, deployment: &Deployment) -> Finding {
    let about = ConditionType::Progressing;
    let status = deployment.status.clone().unwrap_or_default();
    let stuck = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "Progressing" && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    });
    if let Some(stuck) = stuck {
        let message = stuck.message.clone().unwrap_or_default();
        return Finding::no(about, Reason::ProgressDeadlineExceeded, message);
    }
    let updated = status.updated_replicas.unwrap_or(0);
    let settled = status.observed_generation >= deployment.metadata.generation
        && updated == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.ready_replicas.unwrap_or(0) == wanted;
    if settled {
        Finding::no(about, Reason::Stable, "nothing is changing")
    } else {
        Finding::yes(about, Reason::RollingOut, format!("{updated} of {wanted} pods are up to date"))
    }
}
