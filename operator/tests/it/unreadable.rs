//! Objects that an older schema let in and this operator cannot read: they are named, the others go on.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use niks3_operator::controllers;
use niks3_operator::crd::{self, BinaryCache, GCPolicy};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::api_server::Server;
use crate::world::{World, condition, embedded};

const PATIENCE: Duration = Duration::from_secs(30);

/// The CRDs as a release before this one might have had them: any text where there are words today.
fn older() -> Vec<CustomResourceDefinition> {
    let relaxed = crd::all().into_iter().map(|definition| {
        let mut value = serde_json::to_value(definition).unwrap();
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        let fields = value.pointer_mut(spec).unwrap();
        for field in ["suspend", "concurrencyPolicy"] {
            fields.get_mut(field).and_then(Value::as_object_mut).map(|schema| schema.remove("enum"));
        }
        serde_json::from_value(value).unwrap()
    });
    relaxed.collect()
}

async fn upgrade(world: &World) {
    let crds: Api<CustomResourceDefinition> = Api::all(world.client());
    for mut definition in crd::all() {
        let name = definition.metadata.name.clone().unwrap();
        definition.metadata.resource_version = crds.get(&name).await.unwrap().metadata.resource_version;
        crds.replace(&name, &PostParams::default(), &definition).await.unwrap();
    }
}

fn raw<K: kube::Resource<DynamicType = ()>>(world: &World) -> Api<DynamicObject> {
    Api::namespaced_with(world.client(), &world.namespace, &ApiResource::erase::<K>(&()))
}

async fn store<K: kube::Resource<DynamicType = ()>>(world: &World, name: &str, spec: Value) {
    let (api_version, kind) = (K::api_version(&()), K::kind(&()));
    let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec});
    let object = serde_json::from_value(object).unwrap();
    raw::<K>(world).create(&PostParams::default(), &object).await.unwrap();
}

fn embedded_with(suspend: &str) -> Value {
    let mut spec = embedded();
    spec["suspend"] = suspend.into();
    spec
}

fn retention(cache: &str, concurrency: &str) -> Value {
    json!({"cacheRef": {"name": cache}, "schedule": "@daily", "retention": {"olderThan": "720h"},
        "concurrencyPolicy": concurrency})
}

/// Waits until a condition of an object begins as it should.
async fn until<K: kube::Resource<DynamicType = ()>>(world: &World, name: &str, about: &str, wanted: &str) {
    let api = raw::<K>(world);
    let begun = std::time::Instant::now();
    loop {
        let status = api.get(name).await.unwrap().data["status"].clone();
        let known = status["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == about));
        let found = if known { condition(&status, about) } else { "nothing".to_owned() };
        if found.starts_with(wanted) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{name}: {about} should begin with {wanted:?}, it is {found:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn one_that_cannot_be_read_is_named_and_stops_nobody() {
    let server = Server::start(older()).await;
    let world = World::on(&server).await;
    store::<BinaryCache>(&world, "bad", embedded_with("Later")).await;
    store::<GCPolicy>(&world, "bad", retention("good", "Allow")).await;
    upgrade(&world).await;
    let stop = CancellationToken::new();
    let context = Arc::new(World::on(&server).await.context);
    let run = tokio::spawn({
        let (stop, context) = (stop.clone(), Arc::clone(&context));
        async move { controllers::run(&context, 2, &stop).await }
    });

    let unreadable = "False/InvalidSpec: this version of the operator cannot read the object";
    until::<BinaryCache>(&world, "bad", "Ready", unreadable).await;
    until::<BinaryCache>(
        &world,
        "bad",
        "Accepted",
        &format!("{unreadable} and leaves it and its children alone: spec.suspend: unknown variant `Later`"),
    )
    .await;
    until::<GCPolicy>(&world, "bad", "Ready", unreadable).await;
    assert!(world.event_reasons().await.contains(&"InvalidSpec".to_owned()));
    let told = context.metrics.render().unwrap();
    for kind in ["BinaryCache", "GCPolicy"] {
        let line =
            format!("kind=\"{kind}\",namespace=\"{}\",name=\"bad\",type=\"Ready\"}} 0", world.namespace);
        assert!(told.contains(&line), "{told}");
    }

    // Stored after the bad ones, and watched all the same.
    world.cache("good", embedded()).await;
    world.policy("of-bad", retention("bad", "Forbid")).await;
    until::<BinaryCache>(&world, "good", "Accepted", "True/").await;
    assert_eq!(world.names::<Deployment>().await, ["good"]);
    let wanted = "False/CacheNotReady: BinaryCache bad cannot be read";
    until::<GCPolicy>(&world, "of-bad", "CachesResolved", wanted).await;

    // The older policy has its cache, readable or not.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    world.policy("of-good", retention("good", "Forbid")).await;
    until::<GCPolicy>(&world, "of-good", "Accepted", "False/Conflicted: GCPolicy bad is older").await;

    let fix = Patch::Merge(json!({"spec": {"suspend": "None"}}));
    raw::<BinaryCache>(&world).patch("bad", &PatchParams::default(), &fix).await.unwrap();
    until::<BinaryCache>(&world, "bad", "Accepted", "True/").await;
    until::<GCPolicy>(&world, "of-bad", "CachesResolved", "True/").await;
    assert_eq!(world.names::<Deployment>().await, ["bad", "good"]);
    stop.cancel();
    run.await.unwrap();
}
