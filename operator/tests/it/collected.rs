//! What a cache says of its collections, and what leads its policies to it, while the controllers run.

use k8s_openapi::api::batch::v1::CronJob;
use kube::api::DeleteParams;
use niks3_operator::crd::gc_policy::RunResult;
use niks3_operator::crd::{BinaryCache, BinaryCacheStatus, GCPolicy};
use serde_json::{Value, json};

use crate::fsck::ended;
use crate::running::{run, scoped, until};
use crate::world::{World, condition, embedded};

fn spec(of: &Value) -> Value {
    let mut spec = json!({"schedule": "17 3 * * *", "retention": {"olderThan": "720h"}});
    spec.as_object_mut().unwrap().extend(of.as_object().unwrap().clone());
    spec
}

async fn status(world: &World, cache: &str) -> BinaryCacheStatus {
    world.api::<BinaryCache>().get(cache).await.unwrap().status.unwrap_or_default()
}

/// What a cache says of its last collection; nothing where it has no such condition.
async fn said(world: &World, cache: &str) -> Option<String> {
    let status = status(world, cache).await;
    let told = status.conditions.iter().any(|condition| condition.type_ == "LastGCSucceeded");
    told.then(|| condition(status, "LastGCSucceeded"))
}

#[tokio::test]
async fn a_cache_says_what_its_policy_collected() {
    let mut world = World::new().await;
    let context = scoped(&mut world);
    let _running = run(context);
    world.cache("main", embedded()).await;
    until("the cache", async || !status(&world, "main").await.conditions.is_empty()).await;
    assert_eq!(said(&world, "main").await, None, "nobody has it collected");
    // Nothing but the policy's own news leads to a look at a cache that stands still.
    world.patch::<BinaryCache>("main", json!({"spec": {"suspend": "Server"}})).await;
    until("standstill", async || {
        condition(status(&world, "main").await, "Ready").starts_with("False/Suspended")
    })
    .await;
    world.policy("nightly", spec(&json!({"cacheRef": {"name": "main"}}))).await;
    let never = "Unknown/NeverRan: GCPolicy nightly: no collection has ended yet";
    until("the policy", async || said(&world, "main").await.as_deref() == Some(never)).await;
    let result = json!({"state": "succeeded", "phase": "vacuum_tables",
        "params": {"older_than": "720h", "failed_uploads_older_than": "6h", "force": false},
        "stats": {"failed_uploads_deleted": 0, "old_closures_deleted": 2, "objects_marked_for_deletion": 3,
            "objects_deleted_after_grace_period": 4, "objects_failed_to_delete": 0, "bytes_freed": 5},
        "started_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"});
    let labels = json!({"niks3.dev/policy": "nightly", "app.kubernetes.io/instance": "main"});
    ended(&world, "main-gc-1", &labels, "Complete", &json!(result.to_string())).await;
    until("the collection", async || status(&world, "main").await.last_gc.is_some()).await;
    let last = status(&world, "main").await.last_gc.unwrap();
    assert_eq!((last.policy.as_str(), last.result), ("nightly", RunResult::Succeeded));
    assert_eq!((last.deleted_objects, last.freed_bytes), (Some(4), Some(5)));
    let counts = "Job main-gc-1: 2 closures expired, 3 objects marked, 4 deleted (5 bytes)";
    let told = format!("True/Succeeded: GCPolicy nightly: {counts}");
    assert_eq!(said(&world, "main").await.as_deref(), Some(told.as_str()));
    assert!(condition(status(&world, "main").await, "Ready").starts_with("False/Suspended"), "as before");
    // The times of Jobs are in seconds, and the last one counts.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    ended(&world, "main-gc-2", &labels, "Failed", &json!("error: 403")).await;
    let failed = "False/GCFailed: GCPolicy nightly: Job main-gc-2 failed: error: 403";
    until("the failure", async || said(&world, "main").await.as_deref() == Some(failed)).await;
    let events = world.event_reasons().await;
    assert_eq!(
        events.iter().filter(|reason| *reason == "GCFailed").count(),
        1,
        "the policy says it: {events:?}"
    );
    world.api::<GCPolicy>().delete("nightly", &DeleteParams::background()).await.unwrap();
    until("no policy", async || said(&world, "main").await.is_none()).await;
    assert!(status(&world, "main").await.last_gc.is_some(), "what was done was done");
}

#[tokio::test]
async fn labels_and_rivals_lead_a_policy_to_its_caches() {
    let mut world = World::new().await;
    let context = scoped(&mut world);
    let _running = run(context);
    world.policy("all", spec(&json!({"cacheSelector": {"matchLabels": {"tier": "scratch"}}}))).await;
    world.cache("a", embedded()).await;
    world.cache("b", embedded()).await;
    let tier = async |cache: &str, tier: Option<&str>| {
        world.patch::<BinaryCache>(cache, json!({"metadata": {"labels": {"tier": tier}}})).await;
    };
    let owner = async |name: &str| {
        let owners = world.api::<CronJob>().get_opt(name).await.unwrap()?.metadata.owner_references?;
        Some(owners.first()?.name.clone())
    };
    tier("a", Some("scratch")).await;
    tier("b", Some("scratch")).await;
    until("both", async || world.names::<CronJob>().await == ["a-gc", "b-gc"]).await;
    tier("a", None).await;
    until("one", async || world.names::<CronJob>().await == ["b-gc"]).await;
    // One that names it takes it over, and gives it back when it goes.
    world.policy("named", spec(&json!({"cacheRef": {"name": "b"}}))).await;
    until("the one that names it", async || owner("b-gc").await.as_deref() == Some("named")).await;
    let all = async || world.api::<GCPolicy>().get("all").await.unwrap().status.unwrap();
    until("the loss", async || condition(all().await, "Accepted").starts_with("False/Conflicted")).await;
    world.api::<GCPolicy>().delete("named", &DeleteParams::background()).await.unwrap();
    until("the way back", async || owner("b-gc").await.as_deref() == Some("all")).await;
    world.api::<BinaryCache>().delete("b", &DeleteParams::background()).await.unwrap();
    until("none", async || condition(all().await, "CachesResolved").starts_with("False/NoCacheMatches"))
        .await;
}
