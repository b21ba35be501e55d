//! GCPolicies: the CronJob, who has the cache, and what the last run did.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::jiff::Timestamp;
use kube::api::DeleteParams;
use niks3_operator::crd::{BinaryCache, GCPolicy};
use serde_json::{Value, json};

use crate::world::{World, condition, embedded};

fn spec() -> Value {
    json!({"cacheRef": {"name": "main"}, "schedule": "17 3 * * *", "retention": {"olderThan": "720h"}})
}

#[tokio::test]
async fn a_policy_becomes_a_cron_job_with_a_token_of_its_own() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.policy("nightly", spec()).await;
    let status = world.reconcile_policy("nightly").await.status.unwrap();
    assert_eq!(condition(&status, "Ready"), "True/Ready: collections are scheduled");
    assert_eq!(condition(&status, "LastRunSucceeded"), "Unknown/NeverRan: no collection has ended yet");
    assert_eq!(status.caches[0].cron_job_name, "main-gc");
    let due: Timestamp = status.caches[0].next_run.as_ref().unwrap().parse().unwrap();
    assert!(due > Timestamp::now() && due.to_string().ends_with("T03:17:00Z"), "{due}");
    assert_eq!(world.names::<ServiceAccount>().await, ["main-gc"]);
    let cron_job = world.api::<CronJob>().get("main-gc").await.unwrap().spec.unwrap();
    assert_eq!((cron_job.schedule.as_str(), cron_job.time_zone.as_deref()), ("17 3 * * *", Some("Etc/UTC")));
    let mut pod = cron_job.job_template.spec.unwrap().template.spec.unwrap();
    let args = pod.containers[0].args.take().unwrap();
    assert!(args.contains(&"--older-than=720h".to_owned()), "{args:?}");
    let token =
        pod.volumes.unwrap()[0].projected.clone().unwrap().sources.unwrap()[0].service_account_token.clone();
    let audience = format!("niks3.dev/{}/main", world.namespace);
    assert_eq!(token.unwrap().audience, Some(audience));
}

#[tokio::test]
async fn without_its_cache_a_policy_has_no_cron_job() {
    let world = World::new().await;
    world.policy("nightly", spec()).await;
    let status = world.reconcile_policy("nightly").await.status.unwrap();
    let expected = "False/CacheNotFound: BinaryCache main does not exist in this namespace";
    assert_eq!(condition(&status, "CachesResolved"), expected);
    assert_eq!(world.names::<CronJob>().await, [""; 0]);
    world.cache("main", embedded()).await;
    world.reconcile_policy("nightly").await;
    assert_eq!(world.names::<CronJob>().await, ["main-gc"]);
    world.api::<BinaryCache>().delete("main", &DeleteParams::background()).await.unwrap();
    world.reconcile_policy("nightly").await;
    assert_eq!(world.names::<CronJob>().await, [""; 0], "a CronJob without a cache only fails");
}

#[tokio::test]
async fn of_two_policies_the_older_counts() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.policy("first", spec()).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    world.policy("second", spec()).await;
    world.reconcile_policy("first").await;
    let status = world.reconcile_policy("second").await.status.unwrap();
    let expected = "False/Conflicted: GCPolicy first is older and collects BinaryCache main";
    assert_eq!(condition(&status, "Accepted"), expected);
    world.api::<GCPolicy>().delete("first", &DeleteParams::background()).await.unwrap();
    let mut said = String::new();
    for _ in 0..300 {
        // The garbage collector takes the first one's CronJob; until then the second's is refused or replaced.
        if world.names::<CronJob>().await.is_empty() {
            said = condition(world.reconcile_policy("second").await.status.unwrap(), "Ready");
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(said, "True/Ready: collections are scheduled");
}

#[tokio::test]
async fn a_schedule_zone_or_window_that_is_none_is_said_until_it_is_corrected() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.policy("nightly", spec()).await;
    for (patch, corrected, expected) in [
        (
            json!({"schedule": "61 3 * * *"}),
            json!({"schedule": "17 3 * * *"}),
            "False/InvalidSchedule: schedule: ",
        ),
        (
            json!({"timeZone": "Europe/Atlantis"}),
            json!({"timeZone": "Europe/Berlin"}),
            "False/InvalidTimeZone: timeZone: ",
        ),
        (
            json!({"fsck": {"schedule": "@fortnightly"}}),
            json!({"fsck": null}),
            "False/InvalidSchedule: fsck.schedule: ",
        ),
        (
            json!({"retention": {"failedUploadsOlderThan": "2h"}}),
            json!({"retention": {"failedUploadsOlderThan": "6h"}}),
            "False/UnsafeUploadWindow: retention.failedUploadsOlderThan: 2h is shorter than an upload may last, 5h5m",
        ),
    ] {
        world.patch::<GCPolicy>("nightly", json!({"spec": patch})).await;
        let status = world.reconcile_policy("nightly").await.status.unwrap();
        let said = condition(&status, "Accepted");
        assert!(said.starts_with(expected), "{said}");
        assert!(condition(&status, "Ready").starts_with("False"), "{status:?}");
        assert!(status.caches.iter().all(|cache| cache.next_run.is_none()), "{status:?}");
        assert!(world.event_reasons().await.iter().any(|reason| expected.contains(reason.as_str())));

        // Corrected, it goes on.
        world.patch::<GCPolicy>("nightly", json!({"spec": corrected})).await;
        let status = world.reconcile_policy("nightly").await.status.unwrap();
        assert!(condition(&status, "Accepted").starts_with("True/Accepted: "), "{status:?}");
        assert_eq!(condition(&status, "Ready"), "True/Ready: collections are scheduled");
        assert!(status.caches[0].next_run.is_some(), "{status:?}");
        assert_eq!(world.names::<CronJob>().await, ["main-gc"]);
    }
}

#[tokio::test]
async fn the_last_run_is_in_the_status() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.policy("nightly", spec()).await;
    let template =
        json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "gc", "image": "niks3:test"}]}});
    let labels = json!({"niks3.dev/policy": "nightly", "app.kubernetes.io/instance": "main"});
    world
        .create::<Job>(
            json!({"metadata": {"name": "main-gc-1", "labels": labels}, "spec": {"template": template}}),
        )
        .await;
    let done = "2026-01-01T00:01:00Z";
    world
        .patch_status::<Job>(
            "main-gc-1",
            json!({"startTime": "2026-01-01T00:00:00Z", "completionTime": done, "succeeded": 1,
            "uncountedTerminatedPods": {},
            "conditions": [{"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": done},
                {"type": "Complete", "status": "True", "lastTransitionTime": done}]}),
        )
        .await;
    let of_job = json!({"batch.kubernetes.io/job-name": "main-gc-1"});
    world
        .create::<Pod>(
            json!({"metadata": {"name": "main-gc-1-a", "labels": of_job}, "spec": template["spec"]}),
        )
        .await;
    let result = json!({"state": "succeeded", "phase": "vacuum_tables",
        "params": {"older_than": "720h", "failed_uploads_older_than": "6h", "force": false},
        "stats": {"failed_uploads_deleted": 0, "old_closures_deleted": 2, "objects_marked_for_deletion": 3,
            "objects_deleted_after_grace_period": 4, "objects_failed_to_delete": 0, "bytes_freed": 5},
        "started_at": "2026-01-01T00:00:00Z", "updated_at": done});
    world
        .patch_status::<Pod>(
            "main-gc-1-a",
            json!({"phase": "Succeeded", "containerStatuses": [{"name": "gc", "image": "", "imageID": "",
            "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "message": result.to_string()}}}]}),
        )
        .await;
    let status = world.reconcile_policy("nightly").await.status.unwrap();
    let run = status.caches[0].last_run.clone().unwrap();
    assert_eq!(
        (run.job_name.as_str(), run.closures_deleted, run.objects_deleted),
        ("main-gc-1", Some(2), Some(4))
    );
    assert_eq!(status.last_successful_time.as_deref(), Some(done));
    assert!(condition(&status, "LastRunSucceeded").starts_with("True/Succeeded"));
    assert!(world.event_reasons().await.contains(&"GCSucceeded".to_owned()));
    world.api::<Job>().delete("main-gc-1", &DeleteParams::background()).await.unwrap();
    let status = world.reconcile_policy("nightly").await.status.unwrap();
    assert!(status.caches[0].last_run.is_some(), "what a run did stays known when its Job is gone");
}
