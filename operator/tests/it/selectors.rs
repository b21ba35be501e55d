//! `cacheSelector`: one policy for several caches.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use niks3_operator::crd::gc_policy::{GCPolicyStatus, RunResult};
use niks3_operator::crd::{BinaryCache, GCPolicy};
use niks3_operator::policy;
use serde_json::{Value, json};

use crate::faults::Fault;
use crate::fsck::ended;
use crate::world::{World, condition, embedded};

fn spec(schedule: &str) -> Value {
    json!({"cacheSelector": {"matchLabels": {"tier": "scratch"}}, "schedule": schedule,
        "retention": {"olderThan": "720h"}})
}

/// Gives a cache the label, or takes it away.
async fn label(world: &World, cache: &str, tier: Option<&str>) {
    let labels = json!({"metadata": {"labels": {"tier": tier}}});
    world.patch::<BinaryCache>(cache, labels).await;
}

/// A world with these caches, all of them labelled.
async fn scratch(caches: &[&str]) -> World {
    let world = World::new().await;
    for cache in caches {
        world.cache(cache, embedded()).await;
        label(&world, cache, Some("scratch")).await;
    }
    world
}

async fn look(world: &World, policy: &str) -> GCPolicyStatus {
    world.reconcile_policy(policy).await.status.unwrap()
}

async fn schedule(world: &World, cron_job: &str) -> String {
    world.api::<CronJob>().get(cron_job).await.unwrap().spec.unwrap().schedule
}

async fn ask(world: &World, policy: &str) {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let annotations = json!({"niks3.dev/run-now": now});
    world.patch::<GCPolicy>(policy, json!({"metadata": {"annotations": annotations}})).await;
}

fn names(status: &GCPolicyStatus) -> Vec<&str> {
    status.caches.iter().map(|cache| cache.name.as_str()).collect()
}

#[tokio::test]
async fn each_cache_that_matches_is_collected_and_no_other() {
    let world = scratch(&["a", "b"]).await;
    world.cache("c", embedded()).await;
    world.policy("all", spec("H 3 * * *")).await;
    let status = look(&world, "all").await;
    assert_eq!((names(&status), status.matched_caches), (vec!["a", "b"], Some(2)));
    assert_eq!(condition(&status, "Ready"), "True/Ready: collections are scheduled");
    let said = "True/Resolved: 2 BinaryCaches are collected: a, b";
    assert_eq!(condition(&status, "CachesResolved"), said);
    assert_eq!(world.names::<CronJob>().await, ["a-gc", "b-gc"]);
    assert_eq!(world.names::<ServiceAccount>().await, ["a-gc", "b-gc"]);
    for cache in &status.caches {
        // The minute is the cache's own, and the same in both places.
        let due: Timestamp = cache.next_run.as_ref().unwrap().parse().unwrap();
        let minute = due.strftime("%-M 3 * * *").to_string();
        assert_eq!(schedule(&world, &cache.cron_job_name).await, minute);
    }
    let token = world.api::<CronJob>().get("b-gc").await.unwrap().spec.unwrap();
    let token = serde_json::to_string(&token).unwrap();
    assert!(token.contains(&format!("niks3.dev/{}/b", world.namespace)), "{token}");
    world.faults.plan(None);
    assert_eq!(look(&world, "all").await, status);
    assert_eq!(world.faults.writes(), [""; 0], "a second look only reads");

    label(&world, "c", Some("scratch")).await;
    label(&world, "a", Some("production")).await;
    let status = look(&world, "all").await;
    assert_eq!(names(&status), ["b", "c"]);
    assert_eq!(world.names::<CronJob>().await, ["b-gc", "c-gc"]);
    for cache in ["b", "c"] {
        label(&world, cache, None).await;
    }
    let status = look(&world, "all").await;
    let said = "no BinaryCache of this namespace has the labels that cacheSelector asks for";
    assert_eq!(condition(&status, "CachesResolved"), format!("False/NoCacheMatches: {said}"));
    assert_eq!((names(&status), status.matched_caches), (vec![], Some(0)));
    assert_eq!(world.names::<CronJob>().await, [""; 0]);
    assert_eq!(world.names::<ServiceAccount>().await, [""; 0]);
}

#[tokio::test]
async fn who_names_a_cache_goes_before_who_selects_it() {
    let world = scratch(&["a", "b"]).await;
    world.policy("all", spec("@daily")).await;
    look(&world, "all").await;
    let uid = |object: CronJob| object.metadata.owner_references.unwrap().remove(0).name;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    world.policy("late", spec("@weekly")).await;
    let mut named = spec("@monthly");
    named["cacheSelector"] = Value::Null;
    named["cacheRef"] = json!({"name": "b"});
    world.policy("named", named).await;
    let status = look(&world, "all").await;
    let said =
        "True/Resolved: BinaryCache a is collected; other policies collect b (GCPolicy named names it)";
    assert_eq!(condition(&status, "CachesResolved"), said);
    assert_eq!(names(&status), ["a"]);
    look(&world, "named").await;
    assert_eq!(schedule(&world, "b-gc").await, "@monthly");
    assert_eq!(uid(world.api::<CronJob>().get("b-gc").await.unwrap()), "named");
    let status = look(&world, "late").await;
    let taken = "a (GCPolicy all is older), b (GCPolicy named names it)";
    let said = format!("False/Conflicted: other policies collect all of its caches: {taken}");
    assert_eq!(condition(&status, "Accepted"), said);
    assert_eq!((names(&status), status.matched_caches), (vec![], Some(0)));
    assert_eq!(world.names::<CronJob>().await, ["a-gc", "b-gc"]);
}

#[tokio::test]
async fn a_cache_that_cannot_be_collected_stops_no_other() {
    let world = scratch(&["a", "b", "c"]).await;
    let auth = json!({"spec": {"auth": {"kubernetes": {"mode": "Disabled"}}}});
    world.patch::<BinaryCache>("b", auth).await;
    let longer = json!({"spec": {"server": {"uploads": {"presignExpiry": "12h"}}}});
    world.patch::<BinaryCache>("c", longer).await;
    world.policy("all", spec("@daily")).await;
    let status = look(&world, "all").await;
    let said = "False/KubernetesAuthDisabled: BinaryCache b takes no ServiceAccount tokens; set \
        auth.kubernetes.mode: Enabled; BinaryCache a is collected";
    assert_eq!(condition(&status, "CachesResolved"), said);
    let said = "False/UnsafeUploadWindow: BinaryCache c: retention.failedUploadsOlderThan: 6h is shorter than an \
        upload may last, 12h5m; its other caches are collected";
    assert_eq!(condition(&status, "Accepted"), said);
    assert!(condition(&status, "Ready").starts_with("False/UnsafeUploadWindow"), "{status:?}");
    assert_eq!((names(&status), world.names::<CronJob>().await), (vec!["a"], vec!["a-gc".to_owned()]));
}

#[tokio::test]
async fn more_caches_than_a_status_can_carry_are_counted() {
    let all: Vec<String> = (0..103).map(|number| format!("cache-{number}")).collect();
    let world = scratch(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.policy("all", spec("@daily")).await;
    let status = look(&world, "all").await;
    let said = "False/TooManyCaches: cacheSelector matches 103 caches, of which the 100 oldest are collected";
    assert!(condition(&status, "CachesResolved").starts_with(said), "{status:?}");
    assert!(condition(&status, "CachesResolved").contains("100 BinaryCaches are collected: "), "{status:?}");
    assert_eq!((status.caches.len(), status.matched_caches), (100, Some(100)));
    assert_eq!(world.names::<CronJob>().await.len(), 100);
}

#[tokio::test]
async fn asked_once_each_cache_is_collected_once() {
    let world = scratch(&["a", "b", "c"]).await;
    world.patch::<BinaryCache>("c", json!({"spec": {"suspend": "Server"}})).await;
    world.policy("all", spec("@daily")).await;
    // Its other children are there, so that the calls that follow are those that make Jobs.
    look(&world, "all").await;
    ask(&world, "all").await;
    // Each call fails once, the making of each Job too: one that is made is not made again for the sake of the other.
    let mut halves = 0;
    for at in 0..12 {
        world.faults.plan(Some((at, Fault::NeverSent)));
        let object = world.api::<GCPolicy>().get("all").await.unwrap();
        let _ = Box::pin(policy::reconcile(&object, &world.context)).await;
        let told = world.api::<GCPolicy>().get("all").await.unwrap().status.and_then(|status| status.run_now);
        let of = |name: &str| told.as_ref()?.caches.iter().find(|cache| cache.name == name).cloned();
        if let (Some(a), Some(b)) = (of("a"), of("b")) {
            let failed =
                |message: Option<String>| message.is_some_and(|text| text.contains("could not create Job"));
            halves += usize::from(a.job_name.is_none() && failed(a.message) && b.job_name.is_some());
        }
    }
    assert!(halves > 0, "the first Job should have failed while the second was made");
    world.faults.plan(None);
    let told = look(&world, "all").await.run_now.unwrap();
    let mut made: Vec<String> = policy::run_now::jobs(&told).into_iter().cloned().collect();
    made.sort();
    assert_eq!((world.names::<Job>().await, made.len()), (made.clone(), 2));
    assert!(made[0].starts_with("a-gc-") && made[1].starts_with("b-gc-"), "{made:?}");
    assert_eq!(told.caches[2].message.as_deref(), Some("BinaryCache c is suspended"));
    assert_eq!(told.job_name, None, "there is no one Job");
    for job in &made {
        world.api::<Job>().delete(job, &DeleteParams::background()).await.unwrap();
    }
    // One that matches later was not meant.
    world.cache("d", embedded()).await;
    label(&world, "d", Some("scratch")).await;
    world.patch::<BinaryCache>("c", json!({"spec": {"suspend": "None"}})).await;
    let status = look(&world, "all").await;
    assert!(status.caches.iter().all(|cache| cache.next_run.is_some()), "{status:?}");
    let jobs = world.names::<Job>().await;
    assert!(jobs.len() == 1 && jobs[0].starts_with("c-gc-"), "{jobs:?}");
    assert!(world.event_reasons().await.contains(&"GCStarted".to_owned()));
    assert_eq!(look(&world, "all").await.run_now.unwrap().caches.len(), 3);
}

#[tokio::test]
async fn what_was_done_is_said_of_each_cache() {
    let world = scratch(&["a", "b"]).await;
    let mut fsck = spec("@daily");
    fsck["fsck"] = json!({"schedule": "H H * * 0"});
    world.policy("all", fsck).await;
    look(&world, "all").await;
    assert_eq!(world.names::<CronJob>().await, ["a-fsck", "a-gc", "b-fsck", "b-gc"]);
    let weekly = schedule(&world, "a-fsck").await;
    assert!(weekly.ends_with(" * * 0") && !weekly.contains('H'), "{weekly}");
    let result = json!({"state": "succeeded", "phase": "vacuum_tables",
        "params": {"older_than": "720h", "failed_uploads_older_than": "6h", "force": false},
        "stats": {"failed_uploads_deleted": 0, "old_closures_deleted": 2, "objects_marked_for_deletion": 3,
            "objects_deleted_after_grace_period": 4, "objects_failed_to_delete": 0, "bytes_freed": 5},
        "started_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"});
    let of = |cache: &str| json!({"niks3.dev/policy": "all", "app.kubernetes.io/instance": cache});
    ended(&world, "a-gc-1", &of("a"), "Complete", &json!(result.to_string())).await;
    let status = look(&world, "all").await;
    let said = "BinaryCache a: Job a-gc-1: 2 closures expired, 3 objects marked, 4 deleted (5 bytes)";
    assert_eq!(condition(&status, "LastRunSucceeded"), format!("True/Succeeded: {said}"));
    ended(&world, "b-gc-1", &of("b"), "Failed", &json!("error: 403")).await;
    let status = look(&world, "all").await;
    let said = "False/GCFailed: BinaryCache b: Job b-gc-1 failed: error: 403";
    assert_eq!(condition(&status, "LastRunSucceeded"), said);
    assert_eq!(condition(&status, "LastFsckClean"), "Unknown/NeverRan: no comparison has ended yet");
    let runs: Vec<RunResult> =
        status.caches.iter().map(|cache| cache.last_run.as_ref().unwrap().result).collect();
    assert_eq!(runs, [RunResult::Succeeded, RunResult::Failed]);
    let succeeded = status.caches[0].last_run.as_ref().unwrap().finished_at.clone();
    assert_eq!(status.last_successful_time, succeeded);
    let (said, expected) = (world.event_reasons().await, ["GCSucceeded", "GCFailed"]);
    for reason in expected {
        assert_eq!(said.iter().filter(|said| *said == reason).count(), 1, "{said:?}");
    }
    // Jobs are asked for once they are new, and their pods once they have ended.
    world.faults.plan(None);
    assert_eq!(look(&world, "all").await, status);
    assert_eq!(world.faults.count_of("/pods"), 0, "what has ended stays as it is");
    assert!(world.api::<Job>().get("a-gc-1").await.unwrap().labels().contains_key("niks3.dev/policy"));
}
