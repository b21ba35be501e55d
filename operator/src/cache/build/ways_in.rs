//! The ways in from outside of the cluster.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, IngressTLS, ServiceBackendPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use std::collections::BTreeMap;

use crate::cache::validate::ValidCache;
use crate::foreign::{BackendTlsPolicy, HttpRoute};
use crate::labels::{Component, Names, child, labels};

use super::service;

pub(super) fn ingress(cache: &ValidCache) -> Option<Ingress> {
    let wanted = cache.ingress.as_ref()?;
    let backend = IngressBackend {
        service: Some(IngressServiceBackend {
            name: Names(&cache.name).server(),
            port: Some(ServiceBackendPort { name: Some(service::port(cache).0.to_owned()), number: None }),
        }),
        resource: None,
    };
    let path = HTTPIngressPath { backend, path: Some("/".to_owned()), path_type: "Prefix".to_owned() };
    let tls = |secret: &String| {
        vec![IngressTLS { hosts: Some(vec![wanted.host.clone()]), secret_name: Some(secret.clone()) }]
    };
    Some(Ingress {
        metadata: metadata(cache, &wanted.annotations),
        spec: Some(IngressSpec {
            ingress_class_name: wanted.class_name.clone(),
            rules: Some(vec![IngressRule {
                host: Some(wanted.host.clone()),
                http: Some(HTTPIngressRuleValue { paths: vec![path] }),
            }]),
            tls: wanted.tls_secret_name.as_ref().map(tls),
            ..IngressSpec::default()
        }),
        status: None,
    })
}

pub(super) fn http_route(cache: &ValidCache) -> Option<HttpRoute> {
    let wanted = cache.http_route.as_ref()?;
    let spec = json!({
        "parentRefs": wanted.parent_refs,
        "hostnames": wanted.hostnames,
        "rules": [{"backendRefs": [{"name": Names(&cache.name).server(), "port": service::port(cache).1}]}],
    });
    Some(HttpRoute::new(metadata(cache, &wanted.annotations), spec))
}

/// How Gateways speak to a server that speaks TLS itself.
pub(super) fn backend_tls(cache: &ValidCache) -> Option<BackendTlsPolicy> {
    let (tls, route) = (cache.tls.as_ref()?, cache.http_route.as_ref()?);
    let mut validation = json!({"hostname": format!("{}.{}.svc", cache.name, cache.namespace)});
    match &tls.ca {
        Some(_) => {
            let client = Names(&cache.name).client();
            validation["caCertificateRefs"] = json!([{"group": "", "kind": "ConfigMap", "name": client}]);
        }
        None => validation["wellKnownCACertificates"] = json!("System"),
    }
    let target = json!({"group": "", "kind": "Service", "name": Names(&cache.name).server()});
    let spec = json!({"targetRefs": [target], "validation": validation});
    Some(BackendTlsPolicy::new(metadata(cache, &route.annotations), spec))
}

fn metadata(cache: &ValidCache, annotations: &BTreeMap<String, String>) -> ObjectMeta {
    let labels = labels(&cache.name, Component::Server);
    ObjectMeta {
        annotations: (!annotations.is_empty()).then(|| annotations.clone()),
        ..child(Names(&cache.name).server(), &cache.namespace, labels, Some(&cache.owner))
    }
}
