//! Pure: what the statuses of policies tell of one cache.

use crate::crd::GCPolicy;
use crate::crd::binary_cache::LastGC;
use crate::crd::conditions::{ConditionType, Finding};
use crate::crd::gc_policy::{CollectedCache, GCMode};
use kube::ResourceExt as _;

use super::claims::Claimant;
use super::findings::judged;

/// What a policy tells of a cache that it has.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    policy: &'a GCPolicy,
    entry: &'a CollectedCache,
}

impl<'a> Told<'a> {
    /// Of this cache by this policy, where it says that it has it.
    pub fn by(policy: &'a GCPolicy, cache: &str) -> Option<Self> {
        let entry = policy.status.as_ref()?.caches.iter().find(|entry| entry.name == cache)?;
        policy.metadata.deletion_timestamp.is_none().then_some(Self { policy, entry })
    }

    /// Of this cache by the one that has it. For a moment two may say so.
    pub fn of(cache: &str, policies: impl Iterator<Item = &'a GCPolicy>) -> Option<Self> {
        policies
            .filter_map(|policy| Self::by(policy, cache))
            .reduce(|a, b| if Claimant::of(b.policy).goes_before(&Claimant::of(a.policy)) { b } else { a })
    }

    /// The last collection; nothing before the first one ended.
    pub fn last_gc(self) -> Option<LastGC> {
        let run = self.entry.last_run.as_ref()?;
        Some(LastGC {
            policy: self.policy.name_any(),
            finished_at: run.finished_at.clone(),
            result: run.result,
            // Without counts it failed before it could tell.
            mode: run.mode.or(run.objects_deleted.map(|_| GCMode::Enforce)),
            deleted_objects: run.objects_deleted,
            freed_bytes: run.bytes_freed,
        })
    }

    /// The condition of the cache.
    pub fn finding(self) -> Finding {
        let finding = judged(ConditionType::LastGCSucceeded, self.entry.last_run.as_ref());
        Finding { message: format!("GCPolicy {}: {}", self.policy.name_any(), finding.message), ..finding }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crd::conditions::Verdict;

    fn policy(name: &str, mut spec: serde_json::Value, run: &serde_json::Value) -> GCPolicy {
        let more = json!({"schedule": "@daily", "retention": {}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let caches = json!([{"name": "main", "cronJobName": "main-gc", "lastRun": run}]);
        serde_json::from_value(
            json!({"metadata": {"name": name}, "spec": spec, "status": {"caches": caches}}),
        )
        .unwrap()
    }

    #[test]
    fn of_two_that_say_so_the_one_that_names_the_cache_is_believed() {
        let run = json!({"jobName": "main-gc-1", "result": "Failed", "reason": "SafetyLimitReached",
            "message": "too much", "finishedAt": "2026-01-01T00:00:00Z"});
        let all = policy("all", json!({"cacheSelector": {}}), &json!(null));
        let named = policy("named", json!({"cacheRef": {"name": "main"}}), &run);
        let told = Told::of("main", [&all, &named].into_iter()).unwrap();
        let last = told.last_gc().unwrap();
        assert_eq!((last.policy.as_str(), last.mode, last.deleted_objects), ("named", None, None));
        let finding = told.finding();
        assert_eq!((finding.verdict, &*finding.reason), (Verdict::False, "SafetyLimitReached"));
        assert_eq!(finding.message, "GCPolicy named: Job main-gc-1 failed: too much");
        assert!(Told::of("other", [&all, &named].into_iter()).is_none());
        let told = Told::of("main", [&all].into_iter()).unwrap();
        assert_eq!((told.last_gc(), told.finding().verdict), (None, Verdict::Unknown));
    }
}
