//! Watches that tell late, each event by a time of its own, while specs and children change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{DeleteParams, ListParams, PostParams};
use niks3_operator::context::Context;
use niks3_operator::controllers;
use niks3_operator::crd::BinaryCache;
use niks3_operator::scope::Scope;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::specs::{picture, spec};
use crate::world::World;

/// The longest that an event is held back.
const LATE: Duration = Duration::from_millis(1500);
const EDITS: usize = 12;
const PATIENCE: Duration = Duration::from_mins(2);

#[tokio::test]
async fn watches_that_tell_late_change_nothing_about_the_end() {
    let mut world = World::new().await;
    let fresh = Context::new(world.client(), world.context.images.clone(), world.context.probe.clone());
    let mut context = std::mem::replace(&mut world.context, fresh);
    context.scope = Scope::new([world.namespace.clone()]);
    world.faults.plan(None);
    world.faults.delay_watches(LATE);
    let (context, stop) = (Arc::new(context), CancellationToken::new());
    let end = stop.clone();
    let running = tokio::spawn(async move { controllers::run(&context, 4, &end).await });

    let mut runner = TestRunner::deterministic();
    let mut draw = |below: u64| (0..below).new_tree(&mut runner).unwrap().current();
    let pauses: Vec<u64> = (0..EDITS).map(|_| draw(900)).collect();
    let mut runner = TestRunner::deterministic();
    let specs: Vec<_> = (0..EDITS).map(|_| spec().new_tree(&mut runner).unwrap().current()).collect();
    world.cache("main", specs[0].clone()).await;
    for (spec, pause) in specs.iter().zip(pauses) {
        // A status may be written meanwhile.
        loop {
            let mut cache = world.api::<BinaryCache>().get("main").await.unwrap();
            cache.spec = serde_json::from_value(spec.clone()).unwrap();
            match world.api().replace("main", &PostParams::default(), &cache).await {
                Ok(_) => break,
                Err(error) => assert!(error.to_string().contains("has been modified"), "{error}"),
            }
        }
        // Children are tampered with too.
        if pause % 3 == 0 {
            let _ = world.api::<Service>().delete("main", &DeleteParams::default()).await;
        } else if world.api::<Deployment>().get_opt("main").await.unwrap().is_some() {
            world.patch::<Deployment>("main", json!({"spec": {"replicas": 7}})).await;
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    rest(&world).await;
    let each = world.faults.writes().len() / EDITS;
    assert!(each < 60, "{each} writes an edit are a war");
    let keys = ListParams::default().labels("app.kubernetes.io/component=signing-key");
    assert_eq!(world.api::<Secret>().list(&keys).await.unwrap().items.len(), 1, "one name has one key");

    // One that stands still is looked at every five minutes. Before that, what is tampered with has nothing but its own
    // late news to be seen by.
    let mut last = specs[EDITS - 1].clone();
    last["suspend"] = json!("Server");
    world.patch::<BinaryCache>("main", json!({"spec": {"suspend": "Server"}})).await;
    rest(&world).await;
    world.patch_status::<Deployment>("main", json!({"observedGeneration": 1_000_000})).await;
    rest(&world).await;
    let right = async || {
        let deployment = world.api::<Deployment>().get("main").await.unwrap();
        let label = deployment.metadata.labels.unwrap().remove("app.kubernetes.io/name");
        label.as_deref() == Some("niks3") && world.api::<Service>().get_opt("main").await.unwrap().is_some()
    };
    assert!(right().await, "there is something to tamper with");
    let tamper = json!({"metadata": {"labels": {"app.kubernetes.io/name": "mine"}}});
    world.patch::<Deployment>("main", tamper).await;
    world.api::<Service>().delete("main", &DeleteParams::default()).await.unwrap();
    let begun = Instant::now();
    while !right().await {
        assert!(begun.elapsed() < 20 * LATE, "drift is not put right");
        tokio::time::sleep(LATE / 10).await;
    }
    stop.cancel();
    running.await.unwrap();

    let alone = World::new().await;
    alone.cache("main", last).await;
    alone.reconcile_cache("main").await;
    let (found, expected) = (picture(&world).await, picture(&alone).await);
    for (kind, wanted) in expected.as_object().unwrap() {
        assert_eq!(&found[kind], wanted, "{kind}");
    }
}

/// However late: it comes to rest.
async fn rest(world: &World) {
    let begun = Instant::now();
    let mut writes = world.faults.writes().len();
    loop {
        tokio::time::sleep(2 * LATE).await;
        let now = world.faults.writes().len();
        let cache = world.api::<BinaryCache>().get("main").await.unwrap();
        let known =
            cache.status.is_some_and(|status| status.observed_generation == cache.metadata.generation);
        if known && now == writes {
            break;
        }
        writes = now;
        assert!(
            begun.elapsed() < PATIENCE,
            "it still writes: {:?}",
            world.faults.writes().split_off(now.saturating_sub(9))
        );
    }
}
