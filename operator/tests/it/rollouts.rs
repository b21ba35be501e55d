//! What the operator changes of its own accord is rolled out in some caches at a time.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams};
use niks3_operator::apply::Written;
use niks3_operator::crd::BinaryCache;
use niks3_operator::rollouts::Rollouts;
use serde_json::json;

use crate::world::{World, condition, embedded};

async fn image(world: &World, name: &str) -> String {
    let deployment = world.api::<Deployment>().get(name).await.unwrap();
    deployment.spec.unwrap().template.spec.unwrap().containers.remove(0).image.unwrap()
}

/// Looks at a cache and gives back its server's image.
async fn look(world: &World, name: &str) -> String {
    world.reconcile_cache(name).await;
    image(world, name).await
}

/// As a cluster with kubelets would say it.
async fn pods_are_ready(world: &World, name: &str) {
    let generation = world.api::<Deployment>().get(name).await.unwrap().metadata.generation;
    let ready = json!({"observedGeneration": generation, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
        "availableReplicas": 2});
    world.patch_status::<Deployment>(name, ready).await;
}

#[tokio::test]
async fn a_new_image_of_the_operators_comes_to_one_after_the_other() {
    let mut world = World::new().await;
    let all = ["first", "second", "edited"];
    for name in all {
        world.cache(name, embedded()).await;
        assert_eq!(look(&world, name).await, "niks3:test");
        pods_are_ready(&world, name).await;
        world.reconcile_cache(name).await;
    }
    // The next release of the operator begins to look.
    world.context.rollouts = Rollouts::new(1);
    world.context.images.server = "niks3:next".to_owned();
    assert_eq!(look(&world, "first").await, "niks3:next");
    let config = world.server_config("second").await;
    assert_eq!(look(&world, "second").await, "niks3:test", "the first has its turn");
    let status = world.api::<BinaryCache>().get("second").await.unwrap().status;
    let said = condition(status, "Progressing");
    assert!(said.starts_with("True/RollingOut: new pods wait for their turn"), "{said}");
    assert_eq!(world.server_config("second").await, config);
    assert!(world.names::<Deployment>().await.contains(&"second".to_owned()), "what waits is not pruned");

    // What somebody asks for is done at once.
    world.patch::<BinaryCache>("edited", json!({"spec": {"server": {"replicas": 3}}})).await;
    assert_eq!(look(&world, "edited").await, "niks3:next");
    world.patch::<BinaryCache>("edited", json!({"spec": {"server": {"replicas": 2}}})).await;
    world.reconcile_cache("edited").await;

    pods_are_ready(&world, "first").await;
    world.reconcile_cache("first").await;
    assert_eq!(look(&world, "second").await, "niks3:test", "the edited one is under way");
    pods_are_ready(&world, "edited").await;
    world.reconcile_cache("edited").await;
    assert_eq!(look(&world, "second").await, "niks3:next");
    let status = world.api::<BinaryCache>().get("second").await.unwrap().status;
    assert!(!condition(status, "Progressing").contains("turn"));
}

#[tokio::test]
async fn a_rollout_that_stands_still_is_said_and_holds_nobody_up() {
    let mut world = World::new().await;
    for name in ["main", "other"] {
        world.cache(name, embedded()).await;
        look(&world, name).await;
        pods_are_ready(&world, name).await;
        world.reconcile_cache(name).await;
    }
    world.context.rollouts = Rollouts::new(1);
    world.context.images.server = "niks3:next".to_owned();
    assert_eq!(look(&world, "main").await, "niks3:next");
    assert_eq!(look(&world, "other").await, "niks3:test", "it waits");

    let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}});
    let container = json!({"name": "server", "image": "niks3:next", "imageID": "", "ready": false,
        "restartCount": 0, "state": waiting});
    world.pod("main-new", "server", json!({"containerStatuses": [container]})).await;
    let generation = world.api::<Deployment>().get("main").await.unwrap().metadata.generation;
    let words = "ReplicaSet \"main-1\" has timed out progressing.";
    let stuck = json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
        "message": words});
    let stands = json!({"observedGeneration": generation, "replicas": 3, "updatedReplicas": 1, "readyReplicas": 2,
        "availableReplicas": 2, "unavailableReplicas": 1, "conditions": [stuck]});
    world.patch_status::<Deployment>("main", stands).await;
    let status = world.reconcile_cache("main").await.status;
    let said = condition(&status, "Progressing");
    assert!(
        said.starts_with(&format!("False/ProgressDeadlineExceeded: {words}; ImagePullBackOff: ")),
        "{said}"
    );
    assert!(condition(&status, "Available").starts_with("True/"), "pods of before serve: {status:?}");
    assert!(world.event_reasons().await.contains(&"ProgressDeadlineExceeded".to_owned()));
    assert_eq!(look(&world, "other").await, "niks3:next", "its turn is not used up by one that stands still");

    world.api::<Pod>().delete("main-new", &DeleteParams::default()).await.unwrap();
    world.patch_status::<Deployment>("main", json!({"conditions": null})).await;
    pods_are_ready(&world, "main").await;
    assert_eq!(progressing(&world, "main").await, "False/Stable: nothing is changing");
}

#[tokio::test]
async fn why_pods_are_made_anew_and_that_they_were_is_an_event() {
    let mut world = World::new().await;
    world.secret("token", &[("token", "0123456789012345678901234567890123456789")]).await;
    let settle = async |world: &World, name: &str| {
        world.reconcile_cache(name).await;
        pods_are_ready(world, name).await;
        world.reconcile_cache(name).await;
    };
    for name in ["secret", "spec", "image"] {
        let mut spec = embedded();
        spec["auth"] = json!({"staticTokens": [{"name": "a", "secretKeyRef": {"name": "token", "key": "token"},
            "permissions": ["Push"]}]});
        world.cache(name, spec).await;
        settle(&world, name).await;
    }
    world.patch::<BinaryCache>("spec", json!({"spec": {"server": {"uploads": {"verify": "Hash"}}}})).await;
    settle(&world, "spec").await;
    world.patch::<Secret>("token", json!({"metadata": {"labels": {"new": "version"}}})).await;
    settle(&world, "secret").await;
    // Both at once.
    world.context.images.server = "niks3:next".to_owned();
    settle(&world, "image").await;
    world.reconcile_cache("image").await;
    let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
    let noted = |reason: &str| {
        let these = events.items.iter().filter(|event| event.reason.as_deref() == Some(reason));
        let said = these.map(|event| {
            let about = event.regarding.as_ref().and_then(|regarding| regarding.name.clone());
            format!("{}: {}", about.unwrap_or_default(), event.note.clone().unwrap_or_default())
        });
        said.collect::<BTreeSet<_>>()
    };
    let causes = ["secret: pods are made anew: Secret token", "spec: pods are made anew: configuration"];
    let both = "image: pods are made anew: Secret token, image niks3:next";
    let expected = causes.into_iter().chain([both]).map(str::to_owned);
    assert_eq!(noted("RolloutStarted"), expected.collect());
    let done = |name: &str| format!("{name}: all pods are up to date and ready");
    assert_eq!(noted("RolloutComplete"), ["image", "secret", "spec"].map(done).into());
}

async fn set_image(world: &World, name: &str) -> String {
    let set = world.api::<StatefulSet>().get(name).await.unwrap();
    set.spec.unwrap().template.spec.unwrap().containers.remove(0).image.unwrap()
}

async fn progressing(world: &World, name: &str) -> String {
    condition(world.reconcile_cache(name).await.status, "Progressing")
}

#[tokio::test]
async fn embedded_servers_take_turns_too() {
    let mut world = World::new().await;
    for name in ["first", "second"] {
        world.cache(name, embedded()).await;
        look(&world, name).await;
        pods_are_ready(&world, name).await;
        world.reconcile_cache(name).await;
    }
    world.context.rollouts = Rollouts::new(1);
    world.context.images.s3 = "versitygw:next".to_owned();
    let moves = "True/RollingOut: StatefulSet first-s3: its pod is being made anew";
    for _ in 0..2 {
        assert_eq!(progressing(&world, "first").await, moves, "until its pod is ready");
    }
    assert_eq!(set_image(&world, "first-s3").await, "versitygw:next");
    let second = progressing(&world, "second").await;
    assert!(second.starts_with("True/RollingOut: new pods wait for their turn"), "{second}");
    assert_eq!(set_image(&world, "second-s3").await, "versitygw:test");

    let generation = world.api::<StatefulSet>().get("first-s3").await.unwrap().metadata.generation;
    let ready =
        json!({"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1});
    world.patch_status::<StatefulSet>("first-s3", ready).await;
    // Its PostgreSQL never ran in this test.
    let ready = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1});
    world.patch_status::<StatefulSet>("first-postgres", ready).await;
    assert!(progressing(&world, "first").await.starts_with("False/Stable"));
    progressing(&world, "second").await;
    assert_eq!(set_image(&world, "second-s3").await, "versitygw:next");
}

#[tokio::test]
async fn quantities_in_other_words_roll_nothing_out() {
    let mut world = World::new().await;
    let mut spec = embedded();
    let little = json!({"requests": {"cpu": "0.5"}, "limits": {"memory": "1024Mi"}});
    let sidecar = json!({"name": "proxy", "image": "proxy:1", "resources": little});
    spec["server"] = json!({"resources": little, "podTemplate": {"spec": {"containers": [sidecar]}}});
    spec["storage"]["embedded"]["resources"] = little;
    world.cache("main", spec).await;
    for _ in 0..3 {
        world.reconcile_cache("main").await;
        pods_are_ready(&world, "main").await;
    }
    world.reconcile_cache("main").await;
    assert!(!world.event_reasons().await.contains(&"RolloutStarted".to_owned()), "it is as it was");
    // Another process, while another cache has its turn.
    world.context.rollouts = Rollouts::new(1);
    world.context.rollouts.note("another", true);
    world.context.written = Written::default();
    let said = progressing(&world, "main").await;
    assert!(said.starts_with("False/Stable"), "{said}");
}
