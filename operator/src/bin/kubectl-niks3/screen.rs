//! Pure: how a cache stands, on one screen.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use niks3_operator::crd::conditions::{self, ConditionType, remedy};
use niks3_operator::crd::gc_policy::LastRun;
use niks3_operator::crd::{BinaryCache, BinaryCacheStatus, GCPolicy};

use crate::cluster::full_name;
use crate::table::{age, row, size, table, until};

/// What the screen shows.
pub(crate) struct Screen<'a> {
    pub(crate) cache: &'a BinaryCache,
    pub(crate) policies: &'a [GCPolicy],
    pub(crate) pods: &'a [Pod],
    pub(crate) now: Timestamp,
}

/// Several caches, a line each.
pub(crate) fn several(caches: &[BinaryCache], now: Timestamp) -> String {
    let mut rows = vec![row(["CACHE", "READY", "REASON", "SINCE", "MESSAGE"])];
    for cache in caches {
        let conditions = cache.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let ready = conditions::find(conditions, ConditionType::Ready);
        rows.push(match ready {
            Some(ready) => vec![
                cache.name_any(),
                ready.status.clone(),
                ready.reason.clone(),
                since(ready, now),
                ready.message.clone(),
            ],
            None => {
                vec![cache.name_any(), "Unknown".to_owned(), "-".to_owned(), "-".to_owned(), NEW.to_owned()]
            }
        });
    }
    format!("{}\n`kubectl niks3 status CACHE` says more.\n", table(&rows))
}

const NEW: &str = "the operator has not looked at it yet; does it run?";

/// One cache, all of it.
pub(crate) fn one(screen: &Screen<'_>) -> String {
    let none = BinaryCacheStatus::default();
    let status = screen.cache.status.as_ref().unwrap_or(&none);
    let parts = [
        head(screen, status),
        section("Conditions", &conditions(&status.conditions, screen.now)),
        section("Signing keys", &keys(status, screen.now)),
        section("Pods", &pods(screen)),
        section("Collections", &collections(screen)),
        what_to_do(screen, status),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// A heading with rows below it; a table of headings alone says nothing.
fn section(name: &str, rows: &[Vec<String>]) -> String {
    if rows.len() < 2 { format!("{name}: none\n") } else { format!("{name}\n{}", table(rows)) }
}

fn head(screen: &Screen<'_>, status: &BinaryCacheStatus) -> String {
    let cache = screen.cache;
    let ready = conditions::find(&status.conditions, ConditionType::Ready);
    let verdict = match ready {
        Some(ready) if ready.status == "True" => "ready".to_owned(),
        Some(ready) => format!("NOT READY ({})", ready.reason),
        None => "new".to_owned(),
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let counted = age(status.stats_time.as_deref(), screen.now);
    let holds = match (status.objects, &status.size) {
        (Some(objects), Some(size)) => format!("{objects} objects, {size} (counted {counted} ago)"),
        _ => "-".to_owned(),
    };
    let (have, want) = (status.ready_replicas.unwrap_or(0), status.replicas.unwrap_or(0));
    let server = format!("{} ({have} of {want} pods ready)", text(&status.server_version));
    let behind = cache.metadata.generation != status.observed_generation;
    let mut rows = vec![
        row(["Nix reads from", &text(&status.url)]),
        row(["Clients push to", &text(&status.endpoint)]),
        row(["Audience", &text(&status.auth_audience)]),
        row(["Holds", &holds]),
        row(["Server", &server]),
        row(["ConfigMap", &text(&status.client_config_map_name)]),
    ];
    if let Some(at) = &status.next_key_rotation {
        rows.push(row(["Next key", &format!("is generated and published at {at}")]));
    }
    if behind {
        rows.push(row(["Note", "the operator has not seen the last change of the spec yet; does it run?"]));
    }
    format!("BinaryCache {}: {verdict}\n{}", full_name(cache), table(&rows))
}

fn since(condition: &Condition, now: Timestamp) -> String {
    age(Some(&condition.last_transition_time.0.to_string()), now)
}

fn conditions(conditions: &[Condition], now: Timestamp) -> Vec<Vec<String>> {
    let mut rows = vec![row(["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"])];
    rows.extend(conditions.iter().map(|c| {
        vec![c.type_.clone(), c.status.clone(), c.reason.clone(), since(c, now), c.message.clone()]
    }));
    rows
}

fn keys(status: &BinaryCacheStatus, now: Timestamp) -> Vec<Vec<String>> {
    let mut rows = vec![row(["PUBLIC KEY", "STAGE", "PUBLISHED", "SIGNS SINCE", "SECRET"])];
    rows.extend(status.signing_keys.iter().map(|key| {
        let at = |time: &Option<String>| age(time.as_deref(), now);
        let (stage, published) = (format!("{:?}", key.stage), at(&key.published_at));
        vec![key.public_key.clone(), stage, published, at(&key.signing_since), key.secret_name.clone()]
    }));
    rows
}

fn pods(screen: &Screen<'_>) -> Vec<Vec<String>> {
    let mut rows = vec![row(["NAME", "READY", "STATUS", "RESTARTS", "AGE", "NODE"])];
    rows.extend(screen.pods.iter().map(|pod| {
        let status = pod.status.clone().unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let ready = containers.iter().filter(|container| container.ready).count();
        let waiting = containers
            .iter()
            .find_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone());
        let phase = status.phase.unwrap_or_else(|| "-".to_owned());
        let leaving = pod.metadata.deletion_timestamp.is_some().then(|| "Terminating".to_owned());
        let created = pod.creation_timestamp().map(|time| time.0.to_string());
        let wanted = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
        vec![
            pod.name_any(),
            format!("{ready}/{wanted}"),
            leaving.or(waiting).unwrap_or(phase),
            containers.iter().map(|container| container.restart_count).sum::<i32>().to_string(),
            age(created.as_deref(), screen.now),
            pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_else(|| "-".to_owned()),
        ]
    }));
    rows
}

fn collections(screen: &Screen<'_>) -> Vec<Vec<String>> {
    let mut rows = vec![row(["POLICY", "SCHEDULE", "MODE", "NEXT RUN", "LAST RUN", "RESULT"])];
    for policy in screen.policies {
        let caches = policy.status.as_ref().map(|status| status.caches.as_slice()).unwrap_or_default();
        let cache = caches.iter().find(|cache| cache.name == screen.cache.name_any());
        let run = cache.and_then(|cache| cache.last_run.as_ref());
        let next = cache.and_then(|cache| cache.next_run.as_deref());
        let suspended = if policy.spec.suspend { " (suspended)" } else { "" };
        let ended = run.and_then(|run| run.finished_at.as_deref());
        rows.push(vec![
            policy.name_any(),
            format!("{}{suspended}", policy.spec.schedule),
            format!("{:?}", policy.spec.mode),
            until(next, screen.now),
            age(ended, screen.now),
            run.map_or_else(|| "-".to_owned(), result),
        ]);
    }
    rows
}

/// How a collection ended, in one line.
pub(crate) fn result(run: &LastRun) -> String {
    let count = |value: Option<i64>| value.unwrap_or(0);
    let counts = format!(
        "{} closures expired, {} objects marked, {} deleted, {} freed",
        count(run.closures_deleted),
        count(run.objects_marked),
        count(run.objects_deleted),
        size(count(run.bytes_freed)),
    );
    match (run.mode, &run.message) {
        (_, Some(message)) if format!("{:?}", run.result) == "Failed" => format!("failed: {message}"),
        (Some(_), _) => format!("dry run: {counts}"),
        (None, _) => counts,
    }
}

/// What keeps the cache and its collections from being well, and what helps.
fn what_to_do(screen: &Screen<'_>, status: &BinaryCacheStatus) -> String {
    let mut lines = Vec::new();
    if status.conditions.is_empty() {
        lines.push(format!("  - {NEW}"));
    }
    let policies = screen.policies.iter().filter_map(|policy| {
        let about = format!("GCPolicy {}: ", policy.name_any());
        Some((about, policy.status.as_ref()?.conditions.as_slice()))
    });
    for (about, conditions) in [(String::new(), status.conditions.as_slice())].into_iter().chain(policies) {
        for condition in conditions {
            // `Ready` repeats one of the others, where there is one, and the policy says what became of a collection.
            let repeated = condition.type_ == "Ready"
                && conditions.iter().any(|c| c.type_ != "Ready" && c.message == condition.message)
                || condition.type_ == "LastGCSucceeded" && !screen.policies.is_empty();
            if condition.status != "False" || condition.reason == "Stable" || repeated {
                continue;
            }
            lines.push(format!("  - {about}{} is False: {}", condition.type_, condition.message));
            let remedy = remedy(&condition.reason);
            lines.extend(remedy.map(|remedy| format!("    {remedy}")));
        }
    }
    if lines.is_empty() {
        "Nothing to do.\n".to_owned()
    } else {
        format!("What to do\n{}\n", lines.join("\n"))
    }
}
