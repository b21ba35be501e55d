//! The addresses.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cache::validate::ValidCache;
use crate::labels::{Component, Names, child, labels, selector};

use super::SERVER_PORT;
use super::embedded::{POSTGRES_PORT, S3_PORT};

/// The name and number of the server's port.
pub(super) fn port(cache: &ValidCache) -> (&'static str, i32) {
    if cache.tls.is_some() { ("https", 443) } else { ("http", 80) }
}

pub(super) fn server(cache: &ValidCache) -> Service {
    let wanted = &cache.service;
    let (name, number) = port(cache);
    let mut service =
        service(cache, Names(&cache.name).server(), Component::Server, name, number, SERVER_PORT);
    service.metadata.annotations = (!wanted.annotations.is_empty()).then(|| wanted.annotations.clone());
    if let Some(spec) = &mut service.spec {
        spec.type_ = Some(wanted.type_.as_str().to_owned());
        spec.load_balancer_class.clone_from(&wanted.load_balancer_class);
    }
    service
}

pub(super) fn s3(cache: &ValidCache) -> Service {
    service(cache, Names(&cache.name).s3(), Component::S3, "s3", S3_PORT, S3_PORT)
}

pub(super) fn postgres(cache: &ValidCache) -> Service {
    service(
        cache,
        Names(&cache.name).postgres(),
        Component::Postgres,
        "postgres",
        POSTGRES_PORT,
        POSTGRES_PORT,
    )
}

fn service(
    cache: &ValidCache,
    name: String,
    component: Component,
    port_name: &str,
    port: i32,
    target: i32,
) -> Service {
    Service {
        metadata: child(name, &cache.namespace, labels(&cache.name, component), Some(&cache.owner)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector(&cache.name, component)),
            ports: Some(vec![ServicePort {
                name: Some(port_name.to_owned()),
                port,
                target_port: Some(IntOrString::Int(target)),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
