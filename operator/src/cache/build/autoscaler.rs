//! As many pods as the load asks for.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec,
    MetricTarget, ResourceMetricSource,
};

use crate::cache::validate::ValidCache;
use crate::labels::{Component, Names, child, labels};

pub(super) fn server(cache: &ValidCache) -> Option<HorizontalPodAutoscaler> {
    let wanted = cache.autoscaling.as_ref()?;
    let name = Names(&cache.name).server();
    Some(HorizontalPodAutoscaler {
        metadata: child(
            name.clone(),
            &cache.namespace,
            labels(&cache.name, Component::Server),
            Some(&cache.owner),
        ),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name,
            },
            min_replicas: Some(wanted.min_replicas),
            max_replicas: wanted.max_replicas,
            metrics: Some(vec![MetricSpec {
                type_: "Resource".to_owned(),
                resource: Some(ResourceMetricSource {
                    name: "cpu".to_owned(),
                    target: MetricTarget {
                        type_: "Utilization".to_owned(),
                        average_utilization: Some(wanted.target_cpu_utilization_percentage),
                        ..MetricTarget::default()
                    },
                }),
                ..MetricSpec::default()
            }]),
            ..HorizontalPodAutoscalerSpec::default()
        }),
        status: None,
    })
}
