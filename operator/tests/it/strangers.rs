//! Objects that somebody else made, and that have the name of a child.

use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use kube::Api;
use kube::api::DeleteParams;
use niks3_operator::context::Context;
use niks3_operator::crd::{BinaryCache, GCPolicy};
use niks3_operator::{cache, policy};
use serde_json::{Value, json};

use crate::world::{World, condition, embedded};

async fn said(world: &World, name: &str) -> String {
    let api: Api<BinaryCache> = world.api();
    let error = Box::pin(cache::reconcile(&api.get(name).await.unwrap(), &world.context)).await.unwrap_err();
    assert_eq!(error.reason(), "ApplyFailed");
    condition(api.get(name).await.unwrap().status, "Ready")
}

fn spec() -> Value {
    json!({"selector": {"app": "mine"}, "ports": [{"port": 80}]})
}

#[tokio::test]
async fn what_somebody_else_made_is_named_and_left_alone() {
    let world = World::new().await;
    let service = json!({"metadata": {"name": "web"}, "spec": spec()});
    let before = world.create::<Service>(service).await;
    world.cache("web", embedded()).await;
    for _ in 0..2 {
        let told = said(&world, "web").await;
        assert!(
            told.contains("/NameTaken: could not apply Service web: one of this name is there"),
            "{told}"
        );
    }
    let events = world.event_reasons().await;
    assert!(events.contains(&"NameTaken".to_owned()), "{events:?}");
    assert_eq!(world.api::<Service>().get("web").await.unwrap(), before);
    world.api::<Service>().delete("web", &DeleteParams::default()).await.unwrap();
    world.reconcile_cache("web").await;
    let ours = world.api::<Service>().get("web").await.unwrap();
    assert!(ours.metadata.owner_references.is_some());

    // Each namespace has it, and everybody's pods are it.
    if world.api::<ServiceAccount>().get_opt("default").await.unwrap().is_none() {
        world.create::<ServiceAccount>(json!({"metadata": {"name": "default"}})).await;
    }
    let before = world.api::<ServiceAccount>().get("default").await.unwrap();
    world.cache("default", embedded()).await;
    let told = said(&world, "default").await;
    assert!(told.contains("could not apply ServiceAccount default"), "{told}");
    assert_eq!(world.api::<ServiceAccount>().get("default").await.unwrap(), before);
}

#[tokio::test]
async fn a_collection_takes_nobodys_account_either() {
    let world = World::new().await;
    world.cache("web", embedded()).await;
    world.create::<ServiceAccount>(json!({"metadata": {"name": "web-gc"}})).await;
    let collection =
        json!({"cacheRef": {"name": "web"}, "schedule": "@daily", "retention": {"olderThan": "720h"}});
    let nightly = world.policy("nightly", collection).await;
    let failed = Box::pin(policy::reconcile(&nightly, &world.context)).await;
    assert!(failed.is_err());
    let told = condition(world.api::<GCPolicy>().get("nightly").await.unwrap().status, "Ready");
    assert!(told.contains("/NameTaken: could not apply ServiceAccount web-gc"), "{told}");
}

#[tokio::test]
async fn a_child_out_of_a_backup_is_taken_up() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.reconcile_cache("main").await;
    world.patch::<Service>("main", json!({"metadata": {"ownerReferences": null}})).await;
    let fresh = Context::new(world.client(), world.context.images.clone(), world.context.probe.clone());
    let object = world.api::<BinaryCache>().get("main").await.unwrap();
    Box::pin(cache::reconcile(&object, &fresh)).await.unwrap();
    let owners = world.api::<Service>().get("main").await.unwrap().metadata.owner_references.unwrap();
    assert_eq!(owners.len(), 1);
}
