//! What is news: of caches to their policies, and of policies to each other and to their caches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::ObjectMeta;
use kube::runtime::watcher::Event;
use kube::{Resource as _, ResourceExt as _};

use crate::crd::conditions::{self, ConditionType};
use crate::crd::gc_policy::CollectedCache;
use crate::crd::{BinaryCache, GCPolicy};
use crate::known::digest;
use crate::policy::told::Told;
use crate::settled;
use crate::watches::Stored;

/// Of caches, what their policies were told last. How a cache stands is nothing to its policies.
#[derive(Debug, Default)]
pub(super) struct CacheNews(Mutex<HashMap<String, ObjectMeta>>);

impl CacheNews {
    /// Whether a cache is another than it was, by more than its status.
    pub(super) fn is_in(&self, meta: &ObjectMeta) -> bool {
        let told = ObjectMeta {
            uid: meta.uid.clone(),
            generation: meta.generation,
            labels: meta.labels.clone(),
            managed_fields: meta.managed_fields.clone().map(|all| {
                all.into_iter()
                    .filter(|entry| entry.subresource.as_deref() == Some("status"))
                    .map(|entry| ManagedFieldsEntry { fields_v1: None, ..entry })
                    .collect()
            }),
            ..ObjectMeta::default()
        };
        let key = settled::key_of::<BinaryCache>(meta);
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, told.clone());
        // That a status was written shows by its time. Where not even that changed, the cache was deleted.
        before.is_none_or(|before| {
            (&before.uid, before.generation, &before.labels) != (&told.uid, told.generation, &told.labels)
                || before.managed_fields == told.managed_fields
        })
    }
}

/// Of policies, by namespace and name, what was told of them last.
#[derive(Debug, Default)]
pub(super) struct PolicyNews(Mutex<HashMap<(String, String), Known>>);

/// A policy as it was told of last; nothing of one that is gone.
#[derive(Debug, Clone, Default, PartialEq)]
struct Known {
    uid: Option<String>,
    generation: Option<i64>,
    /// The cache that it names.
    named: Option<String>,
    /// The caches that it says it has, and a digest of what it tells of each.
    caches: BTreeMap<String, u64>,
}

/// Whom the news of a policy concerns, in its namespace.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Concerns {
    pub(super) namespace: String,
    /// The policy itself.
    pub(super) policy: String,
    /// Whether other policies may have a cache now that they had not, or the other way round: all that select theirs,
    /// and those that name one of `named`.
    pub(super) rivals: bool,
    pub(super) named: BTreeSet<String>,
    /// Caches that the policy has, or had, and that do not say so.
    pub(super) caches: BTreeSet<String>,
}

impl PolicyNews {
    /// What a watch told; `all` policies are those of which it has told, `cache` finds one by namespace and name.
    pub(super) fn of(
        &self,
        event: &Event<Stored<GCPolicy>>,
        all: &[Arc<Stored<GCPolicy>>],
        cache: impl Fn(&str, &str) -> Option<Arc<Stored<BinaryCache>>>,
    ) -> Vec<Concerns> {
        match event {
            Event::Apply(policy) => vec![self.concerns(place(policy), Some(policy), &cache)],
            Event::Delete(policy) => vec![self.concerns(place(policy), None, &cache)],
            // A list counts when it was heard to its end: before, nobody can look into it.
            Event::Init | Event::InitApply(_) => Vec::new(),
            Event::InitDone => {
                let before: Vec<_> = self.known().keys().cloned().collect();
                let listed: BTreeSet<_> = all.iter().map(|policy| place(policy)).collect();
                let gone = before.iter().filter(|place| !listed.contains(*place));
                let gone = gone.map(|gone| self.concerns(gone.clone(), None, &cache));
                let here = all.iter().map(|policy| self.concerns(place(policy), Some(policy), &cache));
                let mut concerns: Vec<Concerns> = gone.chain(here).collect();
                if before.is_empty() {
                    // All are about to be looked at for the first time.
                    for concerns in &mut concerns {
                        concerns.rivals = false;
                    }
                }
                concerns
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(String, String), Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn concerns(
        &self,
        (namespace, name): (String, String),
        policy: Option<&Stored<GCPolicy>>,
        cache: impl Fn(&str, &str) -> Option<Arc<Stored<BinaryCache>>>,
    ) -> Concerns {
        let now = policy.map(Known::of).unwrap_or_default();
        let place = (namespace.clone(), name.clone());
        let before = match policy {
            Some(_) => self.known().insert(place, now.clone()),
            None => self.known().remove(&place),
        };
        let before = before.unwrap_or_default();
        let readable = policy.and_then(|policy| policy.0.as_ref().ok());
        // One that is not there is looked at when it comes.
        let is_news = |name: &String, told: u64| {
            let Some(found) = cache(&namespace, name) else { return false };
            if let Some(before) = before.caches.get(name) {
                return *before != told;
            }
            let told = readable.and_then(|policy| Told::by(policy, name));
            told.is_none_or(|told| found.0.as_ref().is_ok_and(|cache| !says(cache, told)))
        };
        let lost = before.caches.keys().filter(|name| !now.caches.contains_key(*name));
        let lost = lost.filter(|name| cache(&namespace, name).is_some());
        let news = now.caches.iter().filter(|(name, told)| is_news(name, **told)).map(|(name, _)| name);
        let caches = news.chain(lost).cloned().collect();
        let rivals = (&now.uid, now.generation) != (&before.uid, before.generation);
        let named = now.named.into_iter().chain(before.named).collect();
        Concerns { namespace, policy: name, rivals, named, caches }
    }
}

impl Known {
    fn of(policy: &Stored<GCPolicy>) -> Self {
        let (meta, readable) = (policy.meta(), policy.0.as_ref().ok());
        let status = readable.and_then(|policy| policy.status.as_ref());
        let told = |cache: &CollectedCache| {
            let told = readable.and_then(|policy| Told::by(policy, &cache.name));
            let said = told.map(|told| (format!("{:?}", told.last_gc()), told.finding().message));
            (cache.name.clone(), digest(&said))
        };
        Self {
            uid: meta.uid.clone(),
            generation: meta.generation,
            named: readable.and_then(|policy| Some(policy.spec.cache_ref.as_ref()?.name.clone())),
            caches: status.iter().flat_map(|status| &status.caches).map(told).collect(),
        }
    }
}

fn place(policy: &Stored<GCPolicy>) -> (String, String) {
    (policy.namespace().unwrap_or_default(), policy.name_any())
}

/// Whether the status of a cache says what its policy tells.
fn says(cache: &BinaryCache, told: Told<'_>) -> bool {
    let Some(status) = &cache.status else { return false };
    let finding = told.finding();
    let condition = conditions::find(&status.conditions, ConditionType::LastGCSucceeded);
    condition.is_some_and(|condition| condition.message == finding.message)
        && told.last_gc().is_none_or(|last| status.last_gc == Some(last))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(name: &str, generation: i64, spec: &Value, caches: &[&str]) -> Stored<GCPolicy> {
        let caches: Vec<Value> =
            caches.iter().map(|name| json!({"name": name, "cronJobName": "a"})).collect();
        let mut object = json!({"metadata": {"name": name, "namespace": "nix", "uid": name, "generation": generation},
            "spec": {"schedule": "@daily", "retention": {}}, "status": {"caches": caches}});
        object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    fn cache(name: &str, message: Option<&str>) -> Arc<Stored<BinaryCache>> {
        let condition = message.map(|message| {
            json!({"type": "LastGCSucceeded", "status": "Unknown", "reason": "NeverRan", "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z"})
        });
        let conditions: Vec<Value> = condition.into_iter().collect();
        let object = json!({"metadata": {"name": name, "namespace": "nix"}, "status": {"conditions": conditions},
            "spec": {"storage": {"embedded": {}}, "database": {"embedded": {}}}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_policy_concerns_its_caches_until_they_say_so_and_its_rivals_when_its_spec_changes() {
        let news = PolicyNews::default();
        let known = |_: &str, name: &str| match name {
            "told" => Some(cache(name, Some("GCPolicy a: no collection has ended yet"))),
            "gone" => None,
            name => Some(cache(name, None)),
        };
        let hear = |event: Event<Stored<GCPolicy>>| {
            let concerns = news.of(&event, &[], known).pop().unwrap();
            (concerns.rivals, concerns.named, concerns.caches)
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let (all, one) = (json!({"cacheSelector": {}}), json!({"cacheRef": {"name": "main"}}));
        let apply = |generation, spec, caches: &[&str]| Event::Apply(policy("a", generation, spec, caches));
        assert_eq!(hear(apply(1, &all, &[])), (true, names(&[]), names(&[])));
        assert_eq!(
            hear(apply(1, &all, &["new", "told", "gone"])),
            (false, names(&[]), names(&["new"])),
            "its status is nothing to its rivals"
        );
        assert_eq!(hear(apply(2, &one, &["told"])), (true, names(&["main"]), names(&["new"])));
        assert_eq!(hear(apply(3, &all, &["told"])), (true, names(&["main"]), names(&[])));
        assert_eq!(
            hear(Event::Delete(policy("a", 3, &all, &["told"]))),
            (true, names(&[]), names(&["told"]))
        );
    }

    #[test]
    fn a_new_list_counts_at_its_end_and_without_those_that_it_lacks() {
        let news = PolicyNews::default();
        let listed = [Arc::new(policy("a", 1, &json!({"cacheRef": {"name": "main"}}), &["main"]))];
        let known = |_: &str, name: &str| Some(cache(name, None));
        let hear = |event: Event<Stored<GCPolicy>>, all: &[Arc<Stored<GCPolicy>>]| {
            let concerns = news.of(&event, all, known);
            concerns.into_iter().map(|concerns| (concerns.rivals, concerns.caches.len())).collect::<Vec<_>>()
        };
        assert_eq!(hear(Event::InitApply((*listed[0]).clone()), &[]), []);
        assert_eq!(hear(Event::InitDone, &listed), [(false, 1)], "everybody is about to be looked at");
        assert_eq!(hear(Event::InitDone, &[]), [(true, 1)]);
        assert_eq!(hear(Event::InitDone, &listed), [(false, 1)]);
    }
}
