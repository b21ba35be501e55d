//! Pure: what a reconciliation found out, as conditions.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::jiff::Timestamp;
use niks3_protocol::api::health::{Dependency, ReadinessCheck};

use crate::apply::{ApplyError, refusal};
use crate::cache::apply::Applied;
use crate::cache::pods::Trouble;
use crate::cache::validate::ValidCache;
use crate::crd::binary_cache::ResignProgress;
use crate::crd::conditions::{ConditionType, Finding, Reason, Verdict};
use crate::labels::Component;

use super::{Outcome, auth, credentials, exposure, keys, volumes};

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
pub(super) const SUSPENDED: &str = "spec.suspend is Server: no pod of the server runs";

/// One finding for each condition of a cache.
pub(super) fn findings(
    outcome: &Outcome<'_>,
    resign: Option<&ResignProgress>,
    now: Timestamp,
) -> Vec<Finding> {
    let mut findings = match outcome.valid {
        Ok(valid) => {
            let mut findings = vec![
                Finding::yes(ConditionType::Accepted, Reason::Accepted, "the spec can be carried out"),
                references(valid),
                keys::signing(&valid.signing, resign, outcome.keys, now),
            ];
            findings.extend(credentials::rotated(valid));
            match outcome.applied {
                Some(Ok(applied)) => {
                    findings.extend(running(outcome, valid, applied));
                    findings.push(auth::ready(outcome, valid));
                    findings.extend(exposure::exposed(valid, applied));
                    findings.extend(exposure::monitored(valid, applied));
                    findings.extend(exposure::published(valid, applied));
                    findings.extend(volumes::resized(applied));
                }
                Some(Err(error)) => findings.extend(not_applied(error)),
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

/// The API server does not take a child: nothing can be said of what runs.
fn not_applied(error: &ApplyError) -> [Finding; 5] {
    unknown(error.reason(), &error.sentence()).map(|finding| match finding.about {
        ConditionType::Progressing => Finding::no(finding.about, error.reason(), finding.message),
        _ => finding,
    })
}

fn unknown(reason: Reason, message: &str) -> [Finding; 5] {
    [
        ConditionType::DatabaseReady,
        ConditionType::StorageReady,
        ConditionType::AuthReady,
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

fn running(outcome: &Outcome<'_>, valid: &ValidCache, applied: &Applied) -> [Finding; 4] {
    let deployment = &applied.deployment;
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let ready_pods = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let dependency = |about, name| match outcome.probed {
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
    // That a server of ours does not run says more than that it cannot be reached.
    let embedded = |finding: Finding, component| match outcome.pods.trouble(component) {
        Some(trouble) if finding.verdict != Verdict::True => {
            Finding::no(finding.about, trouble.reason, trouble.message)
        }
        _ => finding,
    };
    let database =
        connections(dependency(ConditionType::DatabaseReady, Dependency::Database), valid, outcome);
    let storage = dependency(ConditionType::StorageReady, Dependency::Storage);
    let trouble = refused(deployment).or_else(|| outcome.pods.trouble(Component::Server));
    [
        embedded(database, Component::Postgres),
        embedded(storage, Component::S3),
        available(valid, ready_pods, wanted, trouble.as_ref()),
        if applied.waits {
            waiting()
        } else {
            with_sets(progressing(wanted, deployment, trouble.as_ref()), applied)
        },
    ]
}

/// The server's pods may have been ready all the time.
fn with_sets(progressing: Finding, applied: &Applied) -> Finding {
    match &applied.rolling_set {
        Some(set) if progressing.reason == Reason::Stable.as_str() => {
            let message = format!("StatefulSet {set}: its pod is being made anew");
            Finding::yes(progressing.about, Reason::RollingOut, message)
        }
        _ => progressing,
    }
}

/// Why pods cannot be made, as the Deployment says.
fn refused(deployment: &Deployment) -> Option<Trouble> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure =
        conditions.iter().find(|found| found.type_ == "ReplicaFailure" && found.status == "True")?;
    let message = failure.message.clone().unwrap_or_default();
    Some(Trouble { reason: refusal(&message).unwrap_or(Reason::PodsNotCreated), message })
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

/// A database that answers now may refuse connections once all pods are there, and busy.
fn connections(database: Finding, valid: &ValidCache, outcome: &Outcome<'_>) -> Finding {
    let said = outcome.probed.and_then(|answer| answer.as_ref().ok()?.readiness.database_connections);
    let (pods, each) = (valid.most_pods().unsigned_abs(), valid.pool.max);
    let Some(limit) = said.filter(|limit| pods.saturating_mul(each) > *limit) else { return database };
    if database.verdict != Verdict::True {
        return database;
    }
    let message = format!(
        "{}; but {pods} pods of {each} connections each (database.pool.maxConnections) may open {}, and it has {limit}",
        database.message,
        pods.saturating_mul(each)
    );
    Finding::yes(database.about, Reason::TooFewConnections, message)
}

fn available(valid: &ValidCache, ready_pods: i32, wanted: i32, trouble: Option<&Trouble>) -> Finding {
    let about = ConditionType::Available;
    let message = format!("{ready_pods} of {wanted} pods are ready");
    if valid.suspended {
        return Finding::no(about, Reason::Suspended, SUSPENDED);
    }
    if ready_pods > 0 {
        return Finding::yes(about, Reason::MinimumReplicasAvailable, message);
    }
    match trouble {
        Some(trouble) => Finding::no(about, trouble.reason, format!("{message}; {}", trouble.message)),
        None => Finding::no(about, Reason::MinimumReplicasUnavailable, message),
    }
}

fn waiting() -> Finding {
    let message = "new pods wait for their turn: other caches are being rolled out (--max-rollouts)";
    Finding::yes(ConditionType::Progressing, Reason::RollingOut, message)
}

fn progressing(wanted: i32, deployment: &Deployment, trouble: Option<&Trouble>) -> Finding {
    let about = ConditionType::Progressing;
    let with_trouble = |message: String| match trouble {
        Some(trouble) => format!("{message}; {}: {}", trouble.reason.as_str(), trouble.message),
        None => message,
    };
    let status = deployment.status.clone().unwrap_or_default();
    let stuck = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "Progressing" && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    });
    if let Some(stuck) = stuck {
        let message = with_trouble(stuck.message.clone().unwrap_or_default());
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
        let message = with_trouble(format!("{updated} of {wanted} pods are up to date"));
        Finding::yes(about, Reason::RollingOut, message)
    }
}
