//! The ways in from outside: Ingress and HTTPRoute.

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::wait::{await_condition, conditions::is_crd_established};
use niks3_operator::crd::BinaryCache;
use niks3_operator::foreign::{BackendTlsPolicy, HttpRoute, ServiceMonitor};
use serde_json::{Value, json};

use crate::world::{World, condition, embedded};

fn with_server(server: Value) -> Value {
    let mut spec = embedded();
    spec["server"] = server;
    spec
}

#[tokio::test]
async fn an_ingress_is_followed_until_it_has_an_address() {
    let world = World::new().await;
    let ingress = json!({"host": "cache.example.org", "className": "nginx", "tlsSecretName": "tls",
        "annotations": {"a": "b"}});
    world.cache("main", with_server(json!({"ingress": ingress}))).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    let expected = "False/CertificateNotReady: Secret tls of server.ingress.tlsSecretName does not exist";
    assert_eq!(condition(&status, "Exposed"), expected);
    assert_eq!(status.url.as_deref(), Some("https://cache.example.org"));
    world.secret("tls", &[("tls.crt", "a"), ("tls.key", "b")]).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert!(condition(&status, "Exposed").starts_with("False/IngressPending: "), "{status:?}");
    let address = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    world.patch_status::<Ingress>("main", address).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    let expected = "True/Reachable: clients outside use https://cache.example.org";
    assert_eq!(condition(&status, "Exposed"), expected);
    let found = world.api::<Ingress>().get("main").await.unwrap();
    assert_eq!(found.metadata.annotations.unwrap()["a"], "b");
    let rule = found.spec.unwrap().rules.unwrap().remove(0);
    let backend = rule.http.unwrap().paths.remove(0).backend.service.unwrap();
    assert_eq!((backend.name.as_str(), rule.host.as_deref()), ("main", Some("cache.example.org")));
    world.patch::<BinaryCache>("main", json!({"spec": {"server": {"ingress": null}}})).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert_eq!(world.names::<Ingress>().await, [""; 0]);
    assert!(status.conditions.iter().all(|condition| condition.type_ != "Exposed"));
}

/// As much of another project's kind as is needed.
pub(crate) async fn install(world: &World, group: &str, kind: &str) {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let kind_in_small = kind.to_lowercase();
    let plural = match kind_in_small.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind_in_small}s"),
    };
    let name = format!("{plural}.{group}");
    let crd: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": name,
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"}},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema,
                "subresources": {"status": {}}}]}
    }))
    .unwrap();
    let crds: Api<CustomResourceDefinition> = Api::all(world.client());
    crds.create(&PostParams::default(), &crd).await.unwrap();
    await_condition(crds, &name, is_crd_established()).await.unwrap();
}

#[tokio::test]
async fn a_route_waits_for_the_gateway_api_and_for_its_gateway() {
    let world = World::new().await;
    let route = json!({"hostnames": ["cache.example.org"], "parentRefs": [{"name": "public", "namespace": "gateways"}]});
    world.cache("main", with_server(json!({"httpRoute": route}))).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert!(condition(&status, "Exposed").starts_with("False/GatewayAPINotInstalled: "), "{status:?}");
    assert_eq!(status.url.as_deref(), Some("https://cache.example.org"));
    install(&world, "gateway.networking.k8s.io", "HTTPRoute").await;
    let mut said = String::new();
    for _ in 0..50 {
        // Established is not yet served by every handler.
        said = condition(world.reconcile_cache("main").await.status.unwrap(), "Exposed");
        if !said.contains("GatewayAPINotInstalled") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(said, "False/RouteNotAccepted: no Gateway has looked at the HTTPRoute yet");
    let spec = world.api::<HttpRoute>().get("main").await.unwrap().spec;
    assert_eq!(spec["rules"][0]["backendRefs"][0], json!({"name": "main", "port": 80}));
    let parent = |status: &str| {
        json!({"parents": [{"parentRef": {"name": "public"}, "conditions": [
            {"type": "Accepted", "status": status, "reason": "NotAllowedByListeners", "message": "no"}]}]})
    };
    world.patch_status::<HttpRoute>("main", parent("False")).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    let expected = "False/RouteNotAccepted: Gateway public: NotAllowedByListeners: no";
    assert_eq!(condition(&status, "Exposed"), expected);
    world.patch_status::<HttpRoute>("main", parent("True")).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert!(condition(&status, "Exposed").starts_with("True/Reachable"));
    world.patch::<BinaryCache>("main", json!({"spec": {"server": {"httpRoute": null}}})).await;
    world.reconcile_cache("main").await;
    assert_eq!(world.names::<HttpRoute>().await, [""; 0]);
}

#[tokio::test]
async fn gateways_are_told_how_to_speak_tls_to_the_server() {
    let world = World::new().await;
    let route = json!({"hostnames": ["cache.example.org"], "parentRefs": [{"name": "public"}]});
    world.secret("tls", &[("tls.crt", "a"), ("tls.key", "b"), ("ca.crt", "the CA")]).await;
    world.cache("main", with_server(json!({"httpRoute": route, "tls": {"secretName": "tls"}}))).await;
    // A cluster that has none goes without.
    world.reconcile_cache("main").await;
    install(&world, "gateway.networking.k8s.io", "BackendTLSPolicy").await;
    let policies = world.api::<BackendTlsPolicy>();
    let mut found = None;
    for _ in 0..50 {
        // Established is not yet served by every handler.
        world.reconcile_cache("main").await;
        found = policies.get_opt("main").await.unwrap_or_default();
        if found.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let spec = found.unwrap().spec;
    assert_eq!(spec["targetRefs"], json!([{"group": "", "kind": "Service", "name": "main"}]));
    let hostname = format!("main.{}.svc", world.namespace);
    let ca = json!([{"group": "", "kind": "ConfigMap", "name": "main-client"}]);
    assert_eq!(spec["validation"], json!({"hostname": hostname, "caCertificateRefs": ca}));
    world.patch::<Secret>("tls", json!({"stringData": {"ca.crt": ""}})).await;
    world.reconcile_cache("main").await;
    let spec = policies.get("main").await.unwrap().spec;
    let system = json!({"hostname": hostname, "wellKnownCACertificates": "System"});
    assert_eq!(spec["validation"], system, "a CA that everybody knows");
    world.patch::<BinaryCache>("main", json!({"spec": {"server": {"tls": null}}})).await;
    world.reconcile_cache("main").await;
    assert_eq!(world.names::<BackendTlsPolicy>().await, [""; 0]);
}

#[tokio::test]
async fn a_service_monitor_waits_for_the_prometheus_operator() {
    let world = World::new().await;
    let wanted = json!({"mode": "Enabled", "labels": {"release": "prometheus"}, "interval": "10s"});
    world.cache("main", with_server(json!({"metrics": {"serviceMonitor": wanted}}))).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    let said = condition(&status, "Monitored");
    assert!(said.starts_with("False/PrometheusOperatorNotInstalled: "), "{said}");
    assert!(!condition(&status, "Ready").contains("Prometheus"), "the cache works without");
    install(&world, "monitoring.coreos.com", "ServiceMonitor").await;
    let mut said = String::new();
    for _ in 0..50 {
        // Established is not yet served by every handler.
        said = condition(world.reconcile_cache("main").await.status.unwrap(), "Monitored");
        if said.starts_with("True") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(said, "True/Accepted: the ServiceMonitor is there");
    let monitor = world.api::<ServiceMonitor>().get("main").await.unwrap();
    assert_eq!(monitor.metadata.labels.unwrap()["release"], "prometheus");
    assert_eq!(monitor.spec["endpoints"][0], json!({"port": "http", "path": "/metrics", "interval": "10s"}));
    let service = world.api::<Service>().get("main").await.unwrap();
    let labels = service.metadata.labels.unwrap();
    for (key, value) in monitor.spec["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(labels[key], value.as_str().unwrap(), "it selects the Service");
    }
    assert!(service.spec.unwrap().ports.unwrap().iter().any(|port| port.name.as_deref() == Some("http")));
    world.patch::<BinaryCache>("main", json!({"spec": {"server": {"metrics": null}}})).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert_eq!(world.names::<ServiceMonitor>().await, [""; 0]);
    assert!(status.conditions.iter().all(|condition| condition.type_ != "Monitored"));
}
