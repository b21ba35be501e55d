//! Rollouts that the operator itself causes, as all at once after its own upgrade, take turns: a new image that does not
//! run is so seen in some caches, not in all.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use crate::labels::SECRET_VERSIONS;
use crate::quantity;

/// One that has not been heard of for so long holds nobody up: its cache may be gone.
const FORGOTTEN: Duration = Duration::from_mins(15);

/// The caches that are being rolled out.
#[derive(Debug)]
pub struct Rollouts {
    limit: usize,
    under_way: Mutex<HashMap<String, Turn>>,
}

/// The turn of a cache.
#[derive(Debug)]
struct Turn {
    /// When it was heard of last.
    since: Instant,
    /// Whether pods of embedded servers are made anew too.
    sets: bool,
}

impl Rollouts {
    /// At most so many at a time.
    pub fn new(limit: usize) -> Self {
        Self { limit, under_way: Mutex::default() }
    }

    fn turns(&self) -> MutexGuard<'_, HashMap<String, Turn>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a cache may be rolled out now; it has its turn then, until it is `done`.
    pub fn begin(&self, cache: &str) -> bool {
        let mut turns = self.turns();
        turns.retain(|_, turn| turn.since.elapsed() < FORGOTTEN);
        let may = turns.contains_key(cache) || turns.len() < self.limit;
        if may {
            Self::go_on(&mut turns, cache);
        }
        may
    }

    fn go_on<'a>(turns: &'a mut HashMap<String, Turn>, cache: &str) -> &'a mut Turn {
        let turn = turns.entry(cache.to_owned()).or_insert(Turn { since: Instant::now(), sets: false });
        turn.since = Instant::now();
        turn
    }

    /// How many are being rolled out, or do not get on.
    pub fn count(&self) -> u32 {
        self.turns().len().try_into().unwrap_or(u32::MAX)
    }

    /// A cache is being rolled out, whoever caused it, or is no more.
    pub fn note(&self, cache: &str, rolling: bool) {
        let mut turns = self.turns();
        if rolling {
            Self::go_on(&mut turns, cache);
        } else {
            turns.remove(cache);
        }
    }

    /// The pod of an embedded server of a cache is made anew.
    pub fn note_sets(&self, cache: &str) {
        Self::go_on(&mut self.turns(), cache).sets = true;
    }

    /// Whether that is to be seen to its end.
    pub fn has_sets(&self, cache: &str) -> bool {
        self.turns().get(cache).is_some_and(|turn| turn.sets)
    }
}

/// Whether the pods would be made anew for another reason than a Secret.
pub fn changes_pods(before: Option<&PodTemplateSpec>, wanted: Option<&PodTemplateSpec>) -> bool {
    let [before, mut wanted] = [before, wanted].map(|it| serde_json::to_value(it).unwrap_or_default());
    let annotations = wanted.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    annotations.map(|annotations| annotations.remove(SECRET_VERSIONS));
    !has(&before, &wanted)
}

/// What the pods of a Deployment are made from.
pub fn template(deployment: &Deployment) -> Option<&PodTemplateSpec> {
    deployment.spec.as_ref().map(|spec| &spec.template)
}

/// Whether all pods are of the newest template, and ready: none of an older one is left, and none comes back.
pub fn is_complete(deployment: &Deployment) -> bool {
    let (Some(spec), Some(status)) = (&deployment.spec, &deployment.status) else { return false };
    let wanted = spec.replicas.unwrap_or(1);
    status.observed_generation >= deployment.metadata.generation
        && [status.replicas, status.updated_replicas, status.available_replicas]
            .iter()
            .all(|found| found.unwrap_or(0) == wanted)
}

/// Why pods are made anew, where they are: `wanted` is what the API server made of it, in its own words.
pub fn why(before: &Deployment, wanted: &Deployment) -> Option<String> {
    if template(before) == template(wanted)
        || wanted.spec.as_ref().is_some_and(|spec| spec.replicas == Some(0))
    {
        return None;
    }
    let (old, new) = (secret_versions(before), secret_versions(wanted));
    let mut causes: Vec<String> = new
        .iter()
        .filter(|(name, version)| old.get(*name) != Some(version))
        .map(|(name, _)| match name.split_once('/') {
            Some(("configmap", name)) => format!("ConfigMap {name}"),
            _ => format!("Secret {name}"),
        })
        .collect();
    // One that is no longer read changes the spec too, or the configuration.
    if changes_pods(template(before), template(wanted)) {
        let (old, new) = (image(before), image(wanted));
        causes.push(match new.filter(|new| old.as_ref() != Some(new)) {
            Some(new) => format!("image {new}"),
            None => "configuration".to_owned(),
        });
    }
    (!causes.is_empty()).then(|| causes.join(", "))
}

/// Which version of each Secret the pods run with.
pub fn secret_versions(deployment: &Deployment) -> BTreeMap<String, String> {
    let template = deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
    let annotation = template.and_then(|meta| meta.annotations.as_ref()?.get(SECRET_VERSIONS));
    let pairs = annotation.map(String::as_str).unwrap_or_default().split(',');
    pairs.filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn image(deployment: &Deployment) -> Option<String> {
    deployment.spec.as_ref()?.template.spec.as_ref()?.containers.first()?.image.clone()
}

/// Whether everything wanted is there; the API server adds its defaults, leaves out what is empty, and has words of its
/// own for quantities. Text that is none and reads like the same one is taken for it: that change has its turn at once.
fn has(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| found.get(key).map_or_else(|| is_empty(wanted), |found| has(found, wanted))),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| has(found, wanted))
        }
        (Value::String(found), Value::String(wanted)) => found == wanted || quantity::same(found, wanted),
        (found, wanted) => found == wanted,
    }
}

fn is_empty(wanted: &Value) -> bool {
    match wanted {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
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
    fn what_embedded_servers_do_is_seen_to_its_end() {
        let rollouts = Rollouts::new(1);
        assert!(!rollouts.has_sets("a"));
        rollouts.note_sets("a");
        rollouts.note("a", true);
        assert!(rollouts.has_sets("a") && !rollouts.begin("b"));
        rollouts.note("a", false);
        assert!(!rollouts.has_sets("a") && rollouts.begin("b"));
    }

    #[test]
    fn the_api_servers_words_are_no_change() {
        let (found, wanted) =
            (json!({"limits": {"memory": "1Gi"}}), json!({"limits": {"memory": "1024Mi"}, "claims": []}));
        assert!(has(&found, &wanted));
        assert!(
            !has(&found, &json!({"limits": {"memory": "1025Mi"}})) && !has(&found, &json!({"claims": ["a"]}))
        );
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
        let changes = |image, secrets, more| {
            changes_pods(template(&before), template(&deployment(image, secrets, &more)))
        };
        assert!(!changes("a", "s=1", json!({})));
        assert!(!changes("a", "s=2", json!({})));
        assert!(changes("b", "s=1", json!({})));
        assert!(changes("a", "s=1", json!({"command": ["a"]})));

        let said = |image, secrets, more| why(&before, &deployment(image, secrets, &more));
        assert_eq!(said("a", "s=1", json!({})), None);
        assert_eq!(said("a", "s=2", json!({})).as_deref(), Some("Secret s"));
        assert_eq!(
            said("b", "configmap/ca=1,s=2", json!({})).as_deref(),
            Some("ConfigMap ca, Secret s, image b")
        );
        assert_eq!(said("a", "s=1", json!({"command": ["a"]})).as_deref(), Some("configuration"));
    }
}
