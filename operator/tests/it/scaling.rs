//! The autoscaler and the NetworkPolicies.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer};
use kube::api::{Patch, PatchParams};
use kube::config::Kubeconfig;
use niks3_operator::crd::BinaryCache;
use serde_json::json;

use crate::api_server;
use crate::world::{World, condition, embedded};

async fn replicas(world: &World) -> Option<i32> {
    world.api::<Deployment>().get("main").await.unwrap().spec.unwrap().replicas
}

#[tokio::test]
async fn the_autoscaler_takes_over_and_gives_back() {
    let world = World::new().await;
    let mut spec = embedded();
    spec["server"] = json!({"replicas": 5});
    world.cache("main", spec).await;
    world.reconcile_cache("main").await;
    let on = json!({"spec": {"server": {"autoscaling": {"minReplicas": 2, "maxReplicas": 8}}}});
    world.patch::<BinaryCache>("main", on).await;
    world.reconcile_cache("main").await;
    assert_eq!(replicas(&world).await, Some(5), "it must not fall to one");
    assert_eq!(world.names::<HorizontalPodAutoscaler>().await, ["main"]);
    let scaled = Patch::Merge(json!({"spec": {"replicas": 7}}));
    world.api::<Deployment>().patch_scale("main", &PatchParams::default(), &scaled).await.unwrap();
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert_eq!(replicas(&world).await, Some(7), "the autoscaler decides");
    assert_eq!(condition(&status, "Available"), "False/MinimumReplicasUnavailable: 0 of 7 pods are ready");
    world.patch::<BinaryCache>("main", json!({"spec": {"suspend": "Server"}})).await;
    world.reconcile_cache("main").await;
    assert_eq!(replicas(&world).await, Some(0));
    assert_eq!(world.names::<HorizontalPodAutoscaler>().await, [""; 0], "it would not let the pods rest");
    world.patch::<BinaryCache>("main", json!({"spec": {"suspend": "None"}})).await;
    world.reconcile_cache("main").await;
    assert_eq!(replicas(&world).await, Some(2));
    world.patch::<BinaryCache>("main", json!({"spec": {"server": {"autoscaling": null}}})).await;
    world.reconcile_cache("main").await;
    assert_eq!(replicas(&world).await, Some(5));
    assert_eq!(world.names::<HorizontalPodAutoscaler>().await, [""; 0]);
}

#[tokio::test]
async fn network_policies_come_and_go() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.reconcile_cache("main").await;
    assert_eq!(world.names::<NetworkPolicy>().await, [""; 0]);
    let on = json!({"spec": {"server": {"networkPolicy": {"mode": "Enabled"}}}});
    world.patch::<BinaryCache>("main", on).await;
    world.reconcile_cache("main").await;
    assert_eq!(world.names::<NetworkPolicy>().await, ["main", "main-gc", "main-postgres", "main-s3"]);
    let of = async |name| world.api::<NetworkPolicy>().get(name).await.unwrap().spec.unwrap();
    assert_eq!(of("main-s3").await.ingress.unwrap()[0].from, None, "clients upload to it");
    let postgres = of("main-postgres").await.ingress.unwrap()[0].from.clone().unwrap();
    let labels = |peer: &NetworkPolicyPeer| peer.pod_selector.clone().unwrap().match_labels.unwrap();
    let components: Vec<_> =
        postgres.iter().map(|peer| labels(peer)["app.kubernetes.io/component"].clone()).collect();
    assert_eq!(components, ["server", "migration"]);
    let off = json!({"spec": {"server": {"networkPolicy": {"mode": "Disabled"}}}});
    world.patch::<BinaryCache>("main", off).await;
    world.reconcile_cache("main").await;
    assert_eq!(world.names::<NetworkPolicy>().await, [""; 0]);
}

#[tokio::test]
async fn network_policies_know_where_the_api_server_and_the_operator_are() {
    let mut world = World::new().await;
    world.context.namespace = "operators".to_owned();
    let mut spec = embedded();
    let ci = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ci"}}});
    spec["server"] = json!({"networkPolicy": {"mode": "Enabled", "ingressFrom": [ci]}});
    world.cache("main", spec).await;
    world.faults.plan(None);
    world.reconcile_cache("main").await;
    world.reconcile_cache("main").await;
    assert_eq!(world.faults.count_of("/api"), 1, "it is no news each time");
    let stored = world.api::<NetworkPolicy>().get("main").await.unwrap();
    let policy = serde_json::to_value(stored.spec.unwrap()).unwrap();

    let config = Kubeconfig::read_from(api_server::shared().await.kubeconfig()).unwrap();
    let address = config.clusters[0].cluster.as_ref().unwrap().server.clone().unwrap();
    let port: u16 = address.rsplit_once(':').unwrap().1.parse().unwrap();
    let open: Vec<_> = policy["egress"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|rule| rule.get("to").is_none())
        .flat_map(|rule| rule["ports"].as_array().unwrap())
        .map(|open| open["port"].as_u64().unwrap())
        .collect();
    assert!(open.contains(&port.into()), "tokens cannot be checked: {open:?} lacks {port}");

    let operator = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "operators"}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "niks3-operator"}}
    });
    let peers = policy["ingress"][0]["from"].as_array().unwrap();
    assert!(peers.contains(&operator), "the operator cannot ask the pods: {peers:?}");
}
