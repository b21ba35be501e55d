//! `spec.suspend`: hands off, and standstill.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use niks3_operator::crd::BinaryCache;
use serde_json::json;

use crate::world::{World, condition, embedded};

async fn replicas(world: &World) -> Option<i32> {
    world.api::<Deployment>().get("main").await.unwrap().spec.unwrap().replicas
}

#[tokio::test]
async fn hands_off_means_that_nothing_is_put_right() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    let before = world.reconcile_cache("main").await.status.unwrap();
    world.patch::<BinaryCache>("main", json!({"spec": {"suspend": "Reconcile"}})).await;
    world.patch::<Deployment>("main", json!({"spec": {"replicas": 7}})).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert_eq!(replicas(&world).await, Some(7));
    let expected = "True/SuspendReconcile: spec.suspend is Reconcile: the operator changes nothing";
    assert_eq!(condition(&status, "ReconciliationPaused"), expected);
    assert_eq!(condition(&status, "Ready"), condition(&before, "Ready"), "as last known");
    assert_eq!(status.observed_generation, Some(2));
    assert!(world.event_reasons().await.contains(&"ReconciliationPaused".to_owned()));
    world.faults.plan(None);
    world.reconcile_cache("main").await;
    assert_eq!(world.faults.writes(), [""; 0]);
    world.patch::<BinaryCache>("main", json!({"spec": {"suspend": "None"}})).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert_eq!(replicas(&world).await, Some(2));
    assert!(status.conditions.iter().all(|condition| condition.type_ != "ReconciliationPaused"));
}

#[tokio::test]
async fn a_suspended_server_has_no_pods_and_no_collections() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    let retention = json!({"olderThan": "720h"});
    world
        .policy(
            "nightly",
            json!({"cacheRef": {"name": "main"}, "schedule": "@daily", "retention": retention}),
        )
        .await;
    world.reconcile_cache("main").await;
    world.reconcile_policy("nightly").await;
    world.patch::<BinaryCache>("main", json!({"spec": {"suspend": "Server"}})).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert_eq!(replicas(&world).await, Some(0));
    assert_eq!(world.names::<PodDisruptionBudget>().await, [""; 0]);
    assert_eq!(world.names::<StatefulSet>().await, ["main-postgres", "main-s3"]);
    for about in ["Ready", "Available"] {
        let expected = "False/Suspended: spec.suspend is Server: no pod of the server runs";
        assert_eq!(condition(&status, about), expected);
    }
    let policy = world.reconcile_policy("nightly").await.status.unwrap();
    let expected = "False/Suspended: BinaryCache main is suspended: no collection is begun";
    assert_eq!(condition(&policy, "Ready"), expected);
    let suspended = async || world.api::<CronJob>().get("main-gc").await.unwrap().spec.unwrap().suspend;
    assert_eq!(suspended().await, Some(true));
    world.patch::<BinaryCache>("main", json!({"spec": {"suspend": "None"}})).await;
    world.reconcile_cache("main").await;
    world.reconcile_policy("nightly").await;
    assert_eq!((replicas(&world).await, suspended().await), (Some(2), Some(false)));
    assert_eq!(world.names::<PodDisruptionBudget>().await, ["main"]);
}
