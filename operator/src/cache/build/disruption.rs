//! Of several pods, one may be moved at a time.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cache::validate::ValidCache;
use crate::labels::{Component, Names, child, labels, selector};

pub(super) fn server(cache: &ValidCache) -> Option<PodDisruptionBudget> {
    let labels = labels(&cache.name, Component::Server);
    // With one pod it would only keep nodes from being drained.
    (cache.replicas >= 2).then(|| PodDisruptionBudget {
        metadata: child(Names(&cache.name).server(), &cache.namespace, labels, Some(&cache.owner)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            selector: Some(LabelSelector {
                match_labels: Some(selector(&cache.name, Component::Server)),
                match_expressions: None,
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    })
}
