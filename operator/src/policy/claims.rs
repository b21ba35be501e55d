//! Pure: of several policies for one cache, which one has it. One that names it goes before those that select it; among
//! equals the older one does.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use kube::api::{DynamicObject, ObjectMeta};
use kube::core::{Selector, SelectorExt as _};

use crate::crd::GCPolicy;

/// The caches that a policy is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// This one.
    Named(String),
    /// Those with these labels.
    Selected(Selector),
    /// None that could be told.
    Nothing,
}

/// A policy, as far as others have to know it.
#[derive(Debug, Clone)]
pub struct Claimant {
    name: Option<String>,
    uid: Option<String>,
    created: Option<Timestamp>,
    deleting: bool,
    claim: Claim,
}

/// The policy that has a cache in place of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub policy: String,
    /// Why.
    pub why: &'static str,
}

impl Claimant {
    /// As its spec says.
    pub fn of(policy: &GCPolicy) -> Self {
        let named = policy.spec.cache_ref.as_ref().map(|cache| Claim::Named(cache.name.clone()));
        let selected = policy.spec.cache_selector.as_ref().and_then(selector);
        Self::new(policy.meta(), named.or(selected))
    }

    /// The same of one that may be no policy to this operator: it has its caches all the same.
    pub fn loosely(policy: &DynamicObject) -> Self {
        let spec = &policy.data["spec"];
        let named = spec["cacheRef"]["name"].as_str().map(|name| Claim::Named(name.to_owned()));
        let selected = serde_json::from_value::<LabelSelector>(spec["cacheSelector"].clone()).ok();
        Self::new(&policy.metadata, named.or_else(|| selected.as_ref().and_then(selector)))
    }

    fn new(meta: &ObjectMeta, claim: Option<Claim>) -> Self {
        Self {
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            deleting: meta.deletion_timestamp.is_some(),
            claim: claim.unwrap_or(Claim::Nothing),
        }
    }

    fn has(&self, cache: &str, labels: &BTreeMap<String, String>) -> bool {
        match &self.claim {
            Claim::Named(name) => name == cache,
            Claim::Selected(selector) => selector.matches(labels),
            Claim::Nothing => false,
        }
    }

    fn selects(&self) -> bool {
        matches!(self.claim, Claim::Selected(_))
    }

    /// Who comes first has the cache.
    fn rank(&self) -> (bool, Option<Timestamp>, Option<&String>) {
        (self.selects(), self.created, self.name.as_ref())
    }

    /// The policy that has a cache, where that is not this one.
    pub fn holder<'a>(
        &self,
        others: impl IntoIterator<Item = &'a Self>,
        cache: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<Holder> {
        let first = others
            .into_iter()
            .filter(|other| other.uid != self.uid && other.rank() < self.rank())
            .filter(|other| !other.deleting && other.has(cache, labels))
            .min_by(|a, b| a.rank().cmp(&b.rank()))?;
        let why = if first.selects() == self.selects() { "is older" } else { "names it" };
        Some(Holder { policy: first.name.clone().unwrap_or_default(), why })
    }

    /// Which of two that say they have a cache is believed.
    pub fn goes_before(&self, other: &Self) -> bool {
        self.rank() < other.rank()
    }
}

fn selector(selector: &LabelSelector) -> Option<Claim> {
    selector.clone().try_into().ok().map(Claim::Selected)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claimant(name: &str, created: &str, spec: &serde_json::Value) -> Claimant {
        let mut object = json!({"metadata": {"name": name, "uid": name, "creationTimestamp": created},
            "spec": {"schedule": "@daily", "retention": {}}});
        object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let strictly = Claimant::of(&serde_json::from_value(object.clone()).unwrap());
        let loosely = Claimant::loosely(&serde_json::from_value(object).unwrap());
        assert_eq!(strictly.claim, loosely.claim);
        strictly
    }

    #[test]
    fn who_names_a_cache_goes_before_who_selects_it_and_the_older_before_the_younger() {
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let named = json!({"cacheRef": {"name": "main"}});
        let (all, scratch) =
            (json!({"cacheSelector": {}}), json!({"cacheSelector": {"matchLabels": {"tier": "scratch"}}}));
        let everyone = [
            claimant("names", new, &named),
            claimant("named-first", old, &named),
            claimant("all", old, &all),
            claimant("scratch", new, &scratch),
            claimant("other", old, &json!({"cacheRef": {"name": "other"}})),
            claimant("none", old, &json!({})),
        ];
        let labels = [("tier".to_owned(), "scratch".to_owned())].into();
        let holder = |of: usize, cache: &str, count: usize| {
            let holder = everyone[of].holder(&everyone[..count], cache, &labels);
            holder.map(|holder| format!("{} {}", holder.policy, holder.why))
        };
        assert_eq!(holder(0, "main", 6).as_deref(), Some("named-first is older"));
        assert_eq!(holder(1, "main", 6), None);
        assert_eq!(holder(2, "main", 6).as_deref(), Some("named-first names it"));
        assert_eq!(holder(2, "third", 6), None);
        assert_eq!(holder(3, "third", 6).as_deref(), Some("all is older"));
        assert_eq!(everyone[3].holder(&everyone[3..], "third", &BTreeMap::new()), None);
        assert!(everyone[1].goes_before(&everyone[0]) && everyone[0].goes_before(&everyone[2]));
    }

    #[test]
    fn who_is_being_deleted_has_nothing() {
        let mut old = claimant("old", "2026-01-01T00:00:00Z", &json!({"cacheSelector": {}}));
        let young = claimant("young", "2026-01-02T00:00:00Z", &json!({"cacheSelector": {}}));
        let none = BTreeMap::new();
        assert!(young.holder([&old], "main", &none).is_some());
        old.deleting = true;
        assert_eq!(young.holder([&old], "main", &none), None);
    }
}
