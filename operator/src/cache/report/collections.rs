//! What the policies tell of a cache's collections, for the cache's own status. It is in their statuses, which a watch
//! keeps; so nobody is asked.

use kube::ResourceExt as _;

use crate::context::Context;
use crate::crd::BinaryCache;
use crate::crd::binary_cache::LastGC;
use crate::crd::conditions::{self, ConditionType, Finding, Verdict};
use crate::policy::told::Told;

const ABOUT: ConditionType = ConditionType::LastGCSucceeded;

/// What is known of a cache's collections.
pub(super) struct Collected {
    /// The last one that ended; it stays known when its policy goes.
    pub(super) last_gc: Option<LastGC>,
    /// Its condition; none where no policy has the cache.
    pub(super) finding: Option<Finding>,
}

/// What the policies tell, or what was known before where they are not known yet.
pub(super) fn look(cache: &BinaryCache, context: &Context) -> Collected {
    let namespace = cache.namespace().unwrap_or_default();
    let before = cache.status.as_ref().and_then(|status| status.last_gc.clone());
    let part = context.scope.part_of(&namespace);
    let Some(policies) = context.stores.readable_policies(part, &namespace) else {
        return Collected { last_gc: before, finding: finding_before(cache) };
    };
    let readable = policies.iter().filter_map(|policy| policy.0.as_ref().ok());
    let told = Told::of(&cache.name_any(), readable);
    Collected { last_gc: told.and_then(Told::last_gc).or(before), finding: told.map(Told::finding) }
}

fn finding_before(cache: &BinaryCache) -> Option<Finding> {
    let before = conditions::find(&cache.status.as_ref()?.conditions, ABOUT)?;
    let verdict = [Verdict::True, Verdict::False, Verdict::Unknown]
        .into_iter()
        .find(|verdict| verdict.as_str() == before.status)?;
    Some(Finding {
        about: ABOUT,
        verdict,
        reason: before.reason.clone().into(),
        message: before.message.clone(),
    })
}
