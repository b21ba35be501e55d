//! Volumes of embedded servers that grow with the spec. The API server judges; what a StatefulSet's controller and a
//! provisioner would do, the tests do.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use niks3_operator::cache;
use niks3_operator::context::Context;
use niks3_operator::crd::BinaryCache;
use niks3_operator::crd::binary_cache::BinaryCacheStatus;
use serde_json::{Value, json};

use crate::faults::Fault;
use crate::world::{World, condition, embedded};

const S3: &str = "data-main-s3-0";
const POSTGRES: &str = "data-main-postgres-0";

/// A cache whose claims are bound to volumes of a class of their own.
async fn bound(grows: bool) -> World {
    let world = World::new().await;
    let class: StorageClass = serde_json::from_value(json!({
        "metadata": {"name": world.namespace}, "provisioner": "niks3.dev/test", "allowVolumeExpansion": grows
    }))
    .unwrap();
    Api::all(world.client()).create(&PostParams::default(), &class).await.unwrap();
    world.cache("main", embedded()).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert!(status.conditions.iter().all(|condition| condition.type_ != "VolumesResized"), "{status:?}");
    for (name, size) in [(S3, "10Gi"), (POSTGRES, "5Gi")] {
        world
            .create::<PersistentVolumeClaim>(json!({
                "metadata": {"name": name},
                "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": world.namespace,
                    "volumeName": format!("{}-{name}", world.namespace),
                    "resources": {"requests": {"storage": size}}}
            }))
            .await;
        has(&world, name, size).await;
    }
    assert_eq!(said(&world).await, "True/Stable: S3 has 10Gi, PostgreSQL has 5Gi");
    world
}

/// A provisioner is done.
async fn has(world: &World, claim: &str, size: &str) {
    let status = json!({"phase": "Bound", "capacity": {"storage": size}});
    world.patch_status::<PersistentVolumeClaim>(claim, status).await;
}

async fn asks(world: &World, claim: &str) -> String {
    let claim = world.api::<PersistentVolumeClaim>().get(claim).await.unwrap();
    claim.spec.unwrap().resources.unwrap().requests.unwrap()["storage"].0.clone()
}

async fn status(world: &World) -> BinaryCacheStatus {
    world.reconcile_cache("main").await.status.unwrap()
}

async fn said(world: &World) -> String {
    condition(status(world).await, "VolumesResized")
}

async fn edit(world: &World, spec: Value) {
    world.patch::<BinaryCache>("main", json!({"spec": spec})).await;
}

async fn set(world: &World) -> (Option<String>, Value) {
    let set = world.api::<StatefulSet>().get("main-s3").await.unwrap();
    (set.uid(), serde_json::to_value(set.spec.unwrap()).unwrap())
}

#[tokio::test]
async fn a_volume_grows_with_the_spec() {
    let world = bound(true).await;
    let (uid, before) = set(&world).await;
    edit(&world, json!({"storage": {"embedded": {"size": "20Gi"}}})).await;
    let growing = "False/Resizing: storage.embedded.size: claim data-main-s3-0 asks for 20Gi and has 10Gi";
    assert_eq!(said(&world).await, growing);
    assert_eq!((asks(&world, S3).await, asks(&world, POSTGRES).await), ("20Gi".into(), "5Gi".into()));
    assert_eq!(set(&world).await, (uid.clone(), before.clone()), "its pod runs on");
    world.faults.plan(None);
    assert_eq!(said(&world).await, growing);
    assert_eq!(world.faults.writes(), [""; 0], "asked once");
    assert!(!world.event_reasons().await.contains(&"Resizing".to_owned()), "nothing to warn of");

    // What else changes comes to it all the same, and by an operator that knows nothing of before.
    edit(&world, json!({"storage": {"embedded": {"image": "versitygw:next"}}})).await;
    let fresh = Context::new(world.client(), world.context.images.clone(), world.context.probe.clone());
    let object = world.api::<BinaryCache>().get("main").await.unwrap();
    Box::pin(cache::reconcile(&object, &fresh)).await.unwrap();
    let (same, mut after) = set(&world).await;
    let image = &mut after["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image.take(), "versitygw:next");
    *image = before["template"]["spec"]["containers"][0]["image"].clone();
    assert_eq!((same, after), (uid, before));

    has(&world, S3, "20Gi").await;
    assert_eq!(said(&world).await, "True/Stable: S3 has 20Gi, PostgreSQL has 5Gi");
}

#[tokio::test]
async fn a_class_that_lets_no_volume_grow_is_named_and_believed_when_it_does() {
    let world = bound(false).await;
    let before = set(&world).await;
    edit(&world, json!({"database": {"embedded": {"size": "8Gi"}}})).await;
    let refused = said(&world).await;
    let begin = "False/ResizeRefused: database.embedded.size: claim data-main-postgres-0 cannot grow from 5Gi to 8Gi: ";
    let end = "; let its StorageClass allow that (allowVolumeExpansion), or set the size back to 5Gi";
    assert!(refused.starts_with(begin) && refused.ends_with(end), "{refused}");
    assert!(refused.contains("must support resize"), "the API server's own words: {refused}");
    assert!(world.event_reasons().await.contains(&"ResizeRefused".to_owned()));
    assert_eq!((asks(&world, POSTGRES).await, set(&world).await), ("5Gi".into(), before));
    edit(&world, json!({"database": {"embedded": {"size": "5Gi"}}})).await;
    assert_eq!(said(&world).await, "True/Stable: S3 has 10Gi, PostgreSQL has 5Gi");

    edit(&world, json!({"database": {"embedded": {"size": "8Gi"}}})).await;
    assert!(said(&world).await.starts_with("False/ResizeRefused"));
    let allows = Patch::Merge(json!({"allowVolumeExpansion": true}));
    let classes = Api::<StorageClass>::all(world.client());
    classes.patch(&world.namespace, &PatchParams::default(), &allows).await.unwrap();
    let mut now = String::new();
    for _ in 0..50 {
        // The API server learns of it a moment later.
        now = said(&world).await;
        if !now.contains("ResizeRefused") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let growing =
        "False/Resizing: database.embedded.size: claim data-main-postgres-0 asks for 8Gi and has 5Gi";
    assert_eq!(now, growing, "nobody had to ask again");
}

#[tokio::test]
async fn a_volume_does_not_shrink() {
    let world = bound(true).await;
    let before = set(&world).await;
    world.faults.plan(None);
    edit(&world, json!({"storage": {"embedded": {"size": "9Gi"}}})).await;
    let larger = "False/CannotShrink: storage.embedded.size: claim data-main-s3-0 has 10Gi, and a volume cannot shrink to \
                  9Gi; set the size back to 10Gi";
    assert_eq!(said(&world).await, larger);
    assert!(world.faults.writes().iter().all(|write| !write.contains("persistentvolumeclaims")));
    assert_eq!((asks(&world, S3).await, set(&world).await), ("10Gi".into(), before));
    edit(&world, json!({"storage": {"embedded": {"size": "10Gi"}}})).await;
    assert_eq!(said(&world).await, "True/Stable: S3 has 10Gi, PostgreSQL has 5Gi");
}

#[tokio::test]
async fn growing_that_fails_at_any_call_ends_where_none_does() {
    let world = bound(true).await;
    let (uid, before) = set(&world).await;
    let mut size = 10;
    for at in 0.. {
        let mut calls = 0;
        for fault in [Fault::NeverSent, Fault::AnswerLost] {
            size += 1;
            edit(&world, json!({"storage": {"embedded": {"size": format!("{size}Gi")}}})).await;
            world.faults.plan(Some((at, fault)));
            let object = world.api::<BinaryCache>().get("main").await.unwrap();
            let _ = Box::pin(cache::reconcile(&object, &world.context)).await;
            calls = world.faults.count();
            world.faults.plan(None);
            status(&world).await;
            assert_eq!(asks(&world, S3).await, format!("{size}Gi"), "{fault:?} at {at}");
            assert_eq!(set(&world).await, (uid.clone(), before.clone()), "{fault:?} at {at}");
            has(&world, S3, &format!("{size}Gi")).await;
            assert_eq!(said(&world).await, format!("True/Stable: S3 has {size}Gi, PostgreSQL has 5Gi"));
        }
        if calls <= at {
            assert!(at > 8, "{at} calls are too few: were they counted?");
            return;
        }
    }
}
