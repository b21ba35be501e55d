//! What /metrics shows: every name and label set of the operator.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::crd::conditions::{self, ConditionType, Reason};

/// Labels of one reconciliation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciliation {
    kind: &'static str,
    outcome: &'static str,
}

/// Labels of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// Labels of a condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Holds {
    kind: &'static str,
    namespace: String,
    name: String,
    r#type: String,
}

/// The conditions that alerts ask for.
const TOLD: [ConditionType; 4] = [
    ConditionType::Ready,
    ConditionType::LastRunSucceeded,
    ConditionType::LastGCSucceeded,
    ConditionType::LastFsckClean,
];
/// An object that was not looked at for so long is gone: each is looked at every ten minutes, unless the operator is told
/// otherwise.
const GONE: Duration = Duration::from_mins(15);

/// The operator's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciliations: Family<Reconciliation, Counter<u64, AtomicU64>>,
    durations: Family<Kind, Histogram>,
    leader: Arc<Gauge<i64, AtomicI64>>,
    conditions: Family<Holds, Gauge>,
    seen: Mutex<HashMap<Holds, Instant>>,
    gone: Duration,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(Duration::ZERO)
    }
}

impl Metrics {
    /// Where a cache that is well is looked at after `resync`, and a policy after twice that.
    pub fn new(resync: Duration) -> Self {
        let mut registry = Registry::with_prefix("niks3_operator");
        let reconciliations = Family::default();
        registry.register("reconciliations", "Reconciliations by kind and outcome", reconciliations.clone());
        let durations = Family::<Kind, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.01, 2.0, 12))
        });
        registry.register("reconciliation_seconds", "How long a reconciliation took", durations.clone());
        let leader = Gauge::default();
        registry.register("leader", "1 while this operator holds the lease", leader.clone());
        let conditions = Family::default();
        registry.register(
            "condition",
            "1 where a condition holds, 0 where it does not; absent while nobody knows, or it stands still on purpose",
            conditions.clone(),
        );
        let leader = Arc::new(leader);
        let gone = GONE.max(resync.saturating_mul(3));
        Self { registry, reconciliations, durations, leader, conditions, seen: Mutex::default(), gone }
    }

    /// One reconciliation ended; `outcome` is `ok` or the reason of its error.
    pub fn reconciled(&self, kind: &'static str, outcome: &'static str, took: Duration) {
        self.reconciliations.get_or_create(&Reconciliation { kind, outcome }).inc();
        self.durations.get_or_create(&Kind { kind }).observe(took.as_secs_f64());
    }

    /// Whether this operator is the one that acts.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// How an object stands.
    pub fn stands(&self, kind: &'static str, object: &ObjectMeta, conditions: &[Condition]) {
        self.stands_at(kind, object, conditions, Instant::now());
    }

    fn stands_at(&self, kind: &'static str, object: &ObjectMeta, conditions: &[Condition], now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for about in TOLD {
            let (namespace, name) = (object.namespace.clone(), object.name.clone());
            let labels = Holds {
                kind,
                namespace: namespace.unwrap_or_default(),
                name: name.unwrap_or_default(),
                r#type: about.as_str().to_owned(),
            };
            let condition = conditions::find(conditions, about);
            let on_purpose = |condition: &Condition| condition.reason == Reason::Suspended.as_str();
            let known = |condition: &&Condition| condition.status != "Unknown" && !on_purpose(condition);
            if let Some(condition) = condition.filter(known) {
                self.conditions.get_or_create(&labels).set(i64::from(condition.status == "True"));
                seen.insert(labels, now);
            } else {
                self.conditions.remove(&labels);
                seen.remove(&labels);
            }
        }
    }

    /// Forgets objects that are gone.
    fn forget(&self, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|labels, at| {
            let here = now.saturating_duration_since(*at) < self.gone;
            if !here {
                self.conditions.remove(labels);
            }
            here
        });
    }

    /// The text of /metrics.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        self.forget(Instant::now());
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_told_until_their_object_is_gone() {
        let metrics = Metrics::default();
        let meta: ObjectMeta = serde_json::from_value(json!({"namespace": "nix", "name": "main"})).unwrap();
        let conditions = |status: &str, reason: &str| -> Vec<Condition> {
            serde_json::from_value(
                json!([{"type": "Ready", "status": status, "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]),
            )
            .unwrap()
        };
        let line =
            "niks3_operator_condition{kind=\"BinaryCache\",namespace=\"nix\",name=\"main\",type=\"Ready\"}";
        let has = |value: &str| metrics.render().unwrap().contains(&format!("{line} {value}"));
        metrics.stands("BinaryCache", &meta, &conditions("True", "Ready"));
        assert!(has("1"), "{}", metrics.render().unwrap());
        metrics.stands("BinaryCache", &meta, &conditions("False", "SecretNotFound"));
        assert!(has("0"));
        metrics.stands("BinaryCache", &meta, &conditions("False", "Suspended"));
        assert!(!has("0"));
        let now = Instant::now();
        metrics.stands_at("BinaryCache", &meta, &conditions("True", "Ready"), now);
        metrics.forget(now + GONE / 2);
        assert!(has("1"));
        metrics.forget(now + GONE);
        assert!(!has("1"));

        // A policy is looked at every two hours then.
        let rarely = Metrics::new(Duration::from_hours(1));
        rarely.stands_at("BinaryCache", &meta, &conditions("False", "SecretNotFound"), now);
        let has = || rarely.render().unwrap().contains(&format!("{line} 0"));
        rarely.forget(now + Duration::from_hours(2));
        assert!(has());
        rarely.forget(now + Duration::from_hours(3));
        assert!(!has());
    }
}
