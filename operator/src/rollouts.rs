//! Rollouts that the operator itself causes, as all at once after its own upgrade, take turns: a new image that does not
//! run is so seen in some caches, not in all.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::Value;

use crate::labels::SECRET_VERSIONS;

/// One that has not been heard of for so long holds nobody up: its cache may be gone.
const FORGOTTEN: Duration = Duration::from_mins(15);

/// The caches that are being rolled out.
#[derive(Debug)]
pub struct Rollouts {
    limit: usize,
    under_way: Mutex<HashMap<String, Instant>>,
}

impl Rollouts {
    /// At most so many at a time.
    pub fn new(limit: usize) -> Self {
        Self { limit, under_way: Mutex::default() }
    }

    /// Whether a cache may be rolled out now; it has its turn then, until it is `done`.
    pub fn begin(&self, cache: &str) -> bool {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, since| since.elapsed() < FORGOTTEN);
        let turn = under_way.contains_key(cache) || under_way.len() < self.limit;
        if turn {
            under_way.insert(cache.to_owned(), Instant::now());
        }
        turn
    }

    /// How many are being rolled out, or do not get on.
    pub fn count(&self) -> u32 {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.len().try_into().unwrap_or(u32::MAX)
    }

    /// A cache is being rolled out, whoever caused it, or is no more.
    pub fn note(&self, cache: &str, rolling: bool) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if rolling {
            under_way.insert(cache.to_owned(), Instant::now());
        } else {
            under_way.remove(cache);
        }
    }
}

/// Whether the pods would be made anew for another reason than a Secret.
pub fn changes_pods(before: &Deployment, wanted: &Deployment) -> bool {
    let template = |deployment: &Deployment| {
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        serde_json::to_value(template).unwrap_or_default()
    };
    let mut wanted = template(wanted);
    let annotations = wanted.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    annotations.map(|annotations| annotations.remove(SECRET_VERSIONS));
    !has(&template(before), &wanted)
}

/// Whether everything wanted is there; the API server adds its defaults.
fn has(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| has(found, wanted)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| has(found, wanted))
        }
        (found, wanted) => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn some_take_turns() {
        let rollouts = Rollouts::new(2);
        assert!(rollouts.begin("a") && rollouts.begin("b") && rollouts.begin("a"));
        assert!(!rollouts.begin("c"));
        rollouts.note("a", true);
        assert!(!rollouts.begin("c"));
        rollouts.note("a", false);
        assert!(rollouts.begin("c"));
        rollouts.note("d", true);
        assert!(!rollouts.begin("a"), "whatever is rolled out by somebody else counts too");
    }

    #[test]
    fn defaults_and_secrets_are_no_change() {
        let deployment = |image: &str, secrets: &str, more: &Value| -> Deployment {
            let mut container = json!({"name": "server", "image": image});
            if let Some(more) = more.as_object() {
                container.as_object_mut().unwrap().extend(more.clone());
            }
            serde_json::from_value(json!({"spec": {"selector": {}, "template": {
                "metadata": {"annotations": {SECRET_VERSIONS: secrets, "a": "b"}},
                "spec": {"containers": [container]}}}}))
            .unwrap()
        };
        let before = deployment("a", "s=1", &json!({"terminationMessagePath": "/dev/termination-log"}));
        assert!(!changes_pods(&before, &deployment("a", "s=1", &json!({}))));
        assert!(!changes_pods(&before, &deployment("a", "s=2", &json!({}))));
        assert!(changes_pods(&before, &deployment("b", "s=1", &json!({}))));
        assert!(changes_pods(&before, &deployment("a", "s=1", &json!({"command": ["a"]}))));
    }
}
