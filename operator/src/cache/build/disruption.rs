//! Of several pods, few may be moved at a time.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::cache::validate::ValidCache;
use crate::labels::{Component, Names, child, labels, selector};

pub(super) fn server(cache: &ValidCache) -> Option<PodDisruptionBudget> {
    let labels = labels(&cache.name, Component::Server);
    cache.max_unavailable.as_ref().map(|most| PodDisruptionBudget {
        metadata: child(Names(&cache.name).server(), &cache.namespace, labels, Some(&cache.owner)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(most.clone()),
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
