//! A reconciliation that fails or crashes anywhere ends, tried again, where one that did not would have.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use niks3_operator::crd::{BinaryCache, GCPolicy};
use niks3_operator::{cache, policy};
use niks3_protocol::nix::SecretKey;
use serde_json::{Value, json};

use crate::faults::Fault;
use crate::world::{World, embedded};

fn retention() -> Value {
    json!({"cacheRef": {"name": "main"}, "schedule": "17 3 * * *", "retention": {"olderThan": "720h"}})
}

/// Everything in the namespace, without what is random or the namespace's own name.
async fn picture(world: &World) -> Value {
    let deployment = world.api::<Deployment>().get("main").await.unwrap().spec.unwrap();
    let mut deployment = serde_json::to_value(deployment).unwrap();
    deployment["template"]["metadata"]["annotations"] = Value::Null;
    let text = json!({
        "deployments": world.names::<Deployment>().await,
        "statefulSets": world.names::<StatefulSet>().await,
        "services": world.names::<Service>().await,
        "configMaps": world.names::<ConfigMap>().await,
        "secrets": world.names::<Secret>().await,
        "serviceAccounts": world.names::<ServiceAccount>().await,
        "budgets": world.names::<PodDisruptionBudget>().await,
        "cronJobs": world.names::<CronJob>().await,
        "deployment": deployment,
    })
    .to_string();
    serde_json::from_str(&world.plain(&text).await).unwrap()
}

/// One try of each reconciliation; whether both went well.
async fn try_both(world: &World) -> bool {
    let object = world.api::<BinaryCache>().get("main").await.unwrap();
    let cache = Box::pin(cache::reconcile(&object, &world.context)).await;
    let object = world.api::<GCPolicy>().get("nightly").await.unwrap();
    let policy = Box::pin(policy::reconcile(&object, &world.context)).await;
    cache.is_ok() && policy.is_ok()
}

/// A world with a cache and a policy; the fault strikes while both are reconciled for the first time.
async fn struck(fault: Option<(usize, Fault)>) -> World {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.policy("nightly", retention()).await;
    world.faults.plan(fault);
    let well = try_both(&world).await;
    assert!(well || fault.is_some(), "it failed without a fault");
    world
}

#[tokio::test]
async fn a_failure_at_any_call_ends_where_none_does() {
    let clean = struck(None).await;
    let calls = clean.faults.count();
    assert!(calls > 25, "{calls} calls are too few: were they counted?");
    let expected = picture(&clean).await;
    for at in 0..calls {
        for fault in [Fault::NeverSent, Fault::AnswerLost] {
            let world = struck(Some((at, fault))).await;
            world.faults.plan(None);
            let mut tries = 0;
            while !try_both(&world).await {
                tries += 1;
                assert!(tries < 3, "{fault:?} at call {at}: it does not recover");
            }
            assert_eq!(picture(&world).await, expected, "{fault:?} at call {at}");
            assert_one_key(&world).await;
        }
    }
}

/// The key in the status is the one in the Secret and the one that clients are told.
async fn assert_one_key(world: &World) {
    let secret = world.api::<Secret>().get("main-signing-1").await.unwrap();
    let text = String::from_utf8(secret.data.unwrap()["secret"].0.clone()).unwrap();
    let key = text.parse::<SecretKey>().unwrap().public_key().to_string();
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert_eq!(status.public_keys, std::slice::from_ref(&key));
    let client = world.api::<ConfigMap>().get("main-client").await.unwrap();
    assert_eq!(client.data.unwrap()["public-keys"], key);
}

#[tokio::test]
async fn looking_again_only_reads() {
    let world = struck(None).await;
    world.faults.plan(None);
    assert!(try_both(&world).await);
    assert_eq!(world.faults.writes(), [""; 0]);
    assert!(world.faults.count() > 5, "the calls were not counted");
}
