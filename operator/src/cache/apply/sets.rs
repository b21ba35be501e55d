//! Writes the StatefulSets of embedded servers. What of one cannot be changed stays as it was made: the sizes of its
//! claims' template, and in which order its pods are dealt with.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec};
use kube::{Api, Client, ResourceExt as _};

use crate::apply::{ApplyError, Children};
use crate::rollouts;

use super::volumes::request;

/// A StatefulSet of a cache.
pub(super) struct Set<'a> {
    wanted: &'a StatefulSet,
    /// As it is, where that was asked.
    found: Option<StatefulSet>,
    as_left: bool,
}

impl Set<'_> {
    /// Whether its pod would be made anew for another reason than a Secret.
    pub(super) fn changes_pods(&self) -> bool {
        let changes = |found| rollouts::changes_pods(template(found), template(self.wanted));
        !self.as_left && self.found.as_ref().is_some_and(changes)
    }
}

/// Looks at those that are not as they were left, or at all of them where they are being rolled out.
pub(super) async fn look<'a>(
    client: &Client,
    sets: &Children<'_, StatefulSet>,
    wanted: &'a [StatefulSet],
    rolling: bool,
) -> Result<Vec<Set<'a>>, ApplyError> {
    let mut all = Vec::new();
    for wanted in wanted {
        let (name, as_left) = (wanted.name_any(), sets.is_as_left(wanted));
        let found = if as_left && !rolling {
            None
        } else {
            let api: Api<StatefulSet> =
                Api::namespaced(client.clone(), &wanted.namespace().unwrap_or_default());
            let read = |source| ApplyError::new::<StatefulSet>("read", &name, source);
            api.get_opt(&name).await.map_err(read)?
        };
        all.push(Set { wanted, found, as_left });
    }
    Ok(all)
}

/// Writes them, but for those whose pods wait for their turn. Gives back one whose pod is being made anew, and whether
/// any begins to be.
pub(super) async fn apply(
    sets: &mut Children<'_, StatefulSet>,
    all: &[Set<'_>],
    waits: bool,
) -> Result<(Option<String>, bool), ApplyError> {
    let (mut rolling, mut begins) = (None, false);
    for set in all {
        let name = set.wanted.name_any();
        if set.as_left || (waits && set.changes_pods()) {
            sets.leave(&name);
            if set.as_left && set.found.as_ref().is_some_and(|found| !is_ready(found)) {
                rolling.get_or_insert(name);
            }
            continue;
        }
        let Some(found) = &set.found else {
            sets.apply(std::slice::from_ref(set.wanted)).await?;
            continue;
        };
        let made = sets.apply_instead(&kept(set.wanted, found), set.wanted).await?;
        let changed = template(&made) != template(found);
        begins |= changed;
        if changed || !is_ready(&made) {
            rolling.get_or_insert(name);
        }
    }
    Ok((rolling, begins))
}

fn template(set: &StatefulSet) -> Option<&PodTemplateSpec> {
    set.spec.as_ref().map(|spec| &spec.template)
}

/// Whether its pod is the new one, and ready.
fn is_ready(set: &StatefulSet) -> bool {
    let Some(status) = &set.status else { return false };
    status.observed_generation >= set.metadata.generation
        && status.updated_replicas == Some(1)
        && status.ready_replicas == Some(1)
}

/// What is wanted, as far as the API server lets it be.
fn kept(wanted: &StatefulSet, found: &StatefulSet) -> StatefulSet {
    let mut kept = wanted.clone();
    let Some(spec) = &mut kept.spec else { return kept };
    if let Some(policy) = found.spec.as_ref().and_then(|spec| spec.pod_management_policy.clone()) {
        spec.pod_management_policy = Some(policy);
    }
    let sizes = claims(found).map(|claim| claim.spec.as_ref()?.resources.as_ref()?.requests.clone());
    for (claim, size) in spec.volume_claim_templates.iter_mut().flatten().zip(sizes.collect::<Vec<_>>()) {
        if let (Some(asked), Some(size)) = (request(claim), size) {
            *asked = size;
        }
    }
    kept
}

fn claims(set: &StatefulSet) -> impl Iterator<Item = &PersistentVolumeClaim> {
    set.spec.iter().flat_map(|spec| spec.volume_claim_templates.iter().flatten())
}
