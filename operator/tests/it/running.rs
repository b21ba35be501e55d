//! The controllers themselves: what leads to a look and what does not, and what they may do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use niks3_operator::context::Context;
use niks3_operator::controllers;
use niks3_operator::crd::{BinaryCache, GCPolicy};
use niks3_operator::scope::Scope;
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::api_server::{self, Server, TENANT};
use crate::world::{World, condition, embedded};

const PATIENCE: Duration = Duration::from_mins(1);

/// Runs the controllers until the end of the test.
pub(crate) fn run(context: Context) -> tokio_util::sync::DropGuard {
    let (context, stop) = (Arc::new(context), CancellationToken::new());
    let end = stop.clone();
    tokio::spawn(async move { controllers::run(&context, 4, &end).await });
    stop.drop_guard()
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "{what} should be so by now");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn is_known(world: &World, name: &str) -> bool {
    let cache = world.api::<BinaryCache>().get(name).await.unwrap();
    cache.status.is_some_and(|status| status.observed_generation == cache.metadata.generation)
}

async fn policy_is_ready(world: &World, name: &str) -> bool {
    let status = world.api::<GCPolicy>().get(name).await.unwrap().status;
    status.is_some_and(|status| condition(status, "Ready").starts_with("True/"))
}

pub(crate) fn scoped(world: &mut World) -> Context {
    let fresh = Context::new(world.client(), world.context.images.clone(), world.context.probe.clone());
    let mut context = std::mem::replace(&mut world.context, fresh);
    context.scope = Scope::new([world.namespace.clone()]);
    context
}

fn retention() -> Value {
    json!({"cacheRef": {"name": "main"}, "schedule": "17 3 * * *", "retention": {"olderThan": "720h"}})
}

#[tokio::test]
async fn own_writes_are_no_news_and_those_of_others_are() {
    let mut world = World::new().await;
    let context = scoped(&mut world);
    world.faults.plan(None);
    let _running = run(context);
    world.cache("main", embedded()).await;
    until("the cache", async || is_known(&world, "main").await).await;
    // Long enough for the echoes of a dozen children and of the status, too short for the next look.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let looks = world.faults.count_of("/secrets/main-s3");
    assert!(looks <= 2, "{looks} looks at a cache that nobody touched");

    world.api::<Service>().delete("main", &DeleteParams::default()).await.unwrap();
    until("a Service", async || world.names::<Service>().await.contains(&"main".to_owned())).await;
    world
        .patch::<Deployment>("main", json!({"metadata": {"labels": {"app.kubernetes.io/name": "mine"}}}))
        .await;
    until("the label", async || {
        let found = world.api::<Deployment>().get("main").await.unwrap();
        found.metadata.labels.unwrap()["app.kubernetes.io/name"] == "niks3"
    })
    .await;
    let ready = json!({"replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "observedGeneration": 1});
    world.patch_status::<Deployment>("main", ready).await;
    until("two ready pods", async || {
        let status = world.api::<BinaryCache>().get("main").await.unwrap().status.unwrap();
        status.ready_replicas == Some(2)
    })
    .await;
}

/// The ClusterRole that users install.
fn installed_role() -> ClusterRole {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/install.yaml")).unwrap();
    let documents = serde_norway::Deserializer::from_str(&text).map(|one| Value::deserialize(one).unwrap());
    let mut roles =
        documents.filter(|one| one["kind"] == "ClusterRole" && one["metadata"]["name"] == "niks3-operator");
    serde_json::from_value(roles.next().unwrap()).unwrap()
}

/// Lets the user `tenant` do in the world's namespace what the operator's ClusterRole says.
async fn grant(world: &World) {
    let mut role = json!({"metadata": {"name": "operator"}, "rules": installed_role().rules});
    // A Role cannot say anything about StorageClasses.
    role["rules"].as_array_mut().unwrap().retain(|rule| rule["apiGroups"] != json!(["storage.k8s.io"]));
    world.create::<Role>(role).await;
    world
        .create::<RoleBinding>(json!({
            "metadata": {"name": "operator"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "tenant"}]
        }))
        .await;
}

#[tokio::test]
async fn in_some_namespaces_it_needs_no_right_elsewhere() {
    let server: &Server = api_server::shared().await;
    let (first, second, other) = (World::new().await, World::new().await, World::new().await);
    grant(&first).await;
    grant(&second).await;
    let tenant = server.client_of(TENANT, &first.faults);
    let mut context = Context::new(tenant, first.context.images.clone(), first.context.probe.clone());
    context.scope = Scope::new([first.namespace.clone(), second.namespace.clone()]);
    for world in [&first, &second, &other] {
        let mut spec = embedded();
        spec["storage"] = json!({"s3": {"bucket": "scoped", "credentials": {"workloadIdentity": {}}}});
        world.cache("main", spec).await;
        world.policy("nightly", retention()).await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    let _running = run(context);
    for world in [&first, &second] {
        until("the cache", async || is_known(world, "main").await).await;
        until("the policy", async || policy_is_ready(world, "nightly").await).await;
        assert_eq!(world.names::<CronJob>().await, ["main-gc"]);
    }
    assert_eq!(first.names::<Deployment>().await, ["main"]);
    // The older cache on a bucket is found in the other namespace too.
    let status = second.api::<BinaryCache>().get("main").await.unwrap().status;
    assert!(condition(status, "Accepted").starts_with("False/BucketConflict"));
    assert!(other.api::<BinaryCache>().get("main").await.unwrap().status.is_none());
    assert_eq!(other.names::<Deployment>().await, [""; 0]);
}

#[tokio::test]
async fn a_policy_follows_its_cache_while_the_controllers_run() {
    let mut world = World::new().await;
    let context = scoped(&mut world);
    let _running = run(context);
    world.policy("nightly", retention()).await;
    world.cache("main", embedded()).await;
    until("the policy", async || policy_is_ready(&world, "nightly").await).await;
    until("the cache", async || is_known(&world, "main").await).await;
    world.api::<BinaryCache>().delete("main", &DeleteParams::background()).await.unwrap();
    until("no CronJob", async || world.names::<CronJob>().await.is_empty()).await;
}

#[tokio::test]
async fn kubectl_scale_works_on_a_cache() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.reconcile_cache("main").await;
    let api: Api<BinaryCache> = world.api();
    let scale: Scale = serde_json::from_value(json!({"spec": {"replicas": 3}})).unwrap();
    let how = PatchParams::default();
    let answer = api.patch_scale("main", &how, &Patch::Merge(&scale)).await.unwrap();
    assert_eq!(answer.spec.and_then(|spec| spec.replicas), Some(3));
    world.reconcile_cache("main").await;
    assert_eq!(world.api::<Deployment>().get("main").await.unwrap().spec.unwrap().replicas, Some(3));
    let ready = json!({"replicas": 3, "readyReplicas": 3});
    world.patch_status::<Deployment>("main", ready).await;
    world.reconcile_cache("main").await;
    let scale = api.get_scale("main").await.unwrap().status.unwrap();
    assert_eq!(scale.replicas, 3);
    assert!(scale.selector.unwrap().contains("app.kubernetes.io/instance=main"));
}

#[tokio::test]
async fn conditions_of_others_stay() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.reconcile_cache("main").await;
    let theirs = |message: &str| {
        json!({"apiVersion": "niks3.dev/v1alpha1", "kind": "BinaryCache", "metadata": {"name": "main"},
            "status": {"conditions": [{"type": "example.org/Audited", "status": "True", "reason": "Seen",
                "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
    };
    let api: Api<BinaryCache> = world.api();
    let auditor = PatchParams::apply("auditor");
    api.patch_status("main", &auditor, &Patch::Apply(theirs("first"))).await.unwrap();
    for suspend in ["None", "Reconcile", "Server", "None"] {
        world.patch::<BinaryCache>("main", json!({"spec": {"suspend": suspend}})).await;
        let status = world.reconcile_cache("main").await.status;
        assert_eq!(condition(status, "example.org/Audited"), "True/Seen: first", "{suspend}");
        // It is still theirs alone: without force, another word of it is no conflict.
        api.patch_status("main", &auditor, &Patch::Apply(theirs("second"))).await.unwrap();
        api.patch_status("main", &auditor, &Patch::Apply(theirs("first"))).await.unwrap();
    }
}
