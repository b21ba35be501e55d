//! `spec.fsck`: the CronJob that compares bucket and database, and what its last run found.

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use niks3_operator::crd::GCPolicy;
use niks3_operator::crd::gc_policy::FsckResult;
use serde_json::{Value, json};

use crate::world::{World, condition, embedded};

fn spec(fsck: &Value) -> Value {
    json!({"cacheRef": {"name": "main"}, "schedule": "17 3 * * *", "retention": {"olderThan": "720h"},
        "safety": {"maxDeletePercent": 30, "maxDeleteObjects": 9}, "fsck": fsck})
}

async fn arguments(world: &World, name: &str) -> Vec<String> {
    let job = world.api::<CronJob>().get(name).await.unwrap().spec.unwrap().job_template.spec.unwrap();
    job.template.spec.unwrap().containers.remove(0).args.unwrap()
}

#[tokio::test]
async fn a_comparison_has_a_cron_job_of_its_own_that_goes_with_the_field() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.policy("nightly", spec(&json!({"schedule": "@weekly"}))).await;
    let status = world.reconcile_policy("nightly").await.status.unwrap();
    assert_eq!(condition(&status, "LastFsckClean"), "Unknown/NeverRan: no comparison has ended yet");
    assert_eq!(world.names::<CronJob>().await, ["main-fsck", "main-gc"]);
    let result = "--result-file=/dev/termination-log";
    assert_eq!(arguments(&world, "main-fsck").await, ["fsck", result]);
    let [fsck, gc] = [
        world.api::<CronJob>().get("main-fsck").await.unwrap(),
        world.api::<CronJob>().get("main-gc").await.unwrap(),
    ]
    .map(|cron_job| cron_job.spec.unwrap());
    assert_eq!((fsck.schedule.as_str(), fsck.time_zone.as_deref()), ("@weekly", Some("Etc/UTC")));
    assert_eq!(fsck.concurrency_policy.as_deref(), Some("Forbid"));
    let [fsck, gc] = [fsck, gc].map(|spec| spec.job_template.spec.unwrap());
    // It proves to the cache who it is as a collection does.
    assert_eq!(fsck.template.spec.as_ref().unwrap().volumes, gc.template.spec.as_ref().unwrap().volumes);
    assert_eq!(fsck.template.spec.unwrap().service_account_name.as_deref(), Some("main-gc"));
    let rules = fsck.pod_failure_policy.unwrap().rules;
    assert_eq!(rules[0].on_exit_codes.as_ref().unwrap().values, [2, 3], "to try again finds the same damage");

    let repair = json!({"schedule": "@daily", "mode": "Repair", "deep": true});
    world.patch::<GCPolicy>("nightly", json!({"spec": {"fsck": repair}})).await;
    world.reconcile_policy("nightly").await;
    let expected =
        ["fsck", result, "--repair", "--deep", "--max-delete-percent=30", "--max-delete-objects=9"];
    assert_eq!(arguments(&world, "main-fsck").await, expected);

    world.patch::<GCPolicy>("nightly", json!({"spec": {"fsck": null}})).await;
    let status = world.reconcile_policy("nightly").await.status.unwrap();
    assert_eq!(world.names::<CronJob>().await, ["main-gc"]);
    assert!(status.conditions.iter().all(|condition| condition.type_ != "LastFsckClean"), "{status:?}");
}

/// What a Job and its pod leave behind.
/// A Job that ended, and the pod that it leaves behind.
pub(crate) async fn ended(world: &World, name: &str, labels: &Value, outcome: &str, message: &Value) {
    let template =
        json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "gc", "image": "niks3:test"}]}});
    let metadata = json!({"name": name, "labels": labels});
    world.create::<Job>(json!({"metadata": metadata, "spec": {"template": template}})).await;
    let of_job = json!({"batch.kubernetes.io/job-name": name});
    let metadata = json!({"name": format!("{name}-a"), "labels": of_job});
    world.create::<Pod>(json!({"metadata": metadata, "spec": template["spec"]})).await;
    world
        .patch_status::<Pod>(
            &format!("{name}-a"),
            json!({"phase": "Failed", "containerStatuses": [{"name": "gc", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 3, "message": message}}}]}),
        )
        .await;
    let done = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let criteria = if outcome == "Complete" { "SuccessCriteriaMet" } else { "FailureTarget" };
    let conditions =
        [criteria, outcome].map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": done}));
    let mut status = json!({"startTime": "2026-01-01T00:00:00Z", "uncountedTerminatedPods": {},
        "conditions": conditions});
    if outcome == "Complete" {
        status["completionTime"] = json!(done);
        status["succeeded"] = json!(1);
    }
    world.patch_status::<Job>(name, status).await;
}

#[tokio::test]
async fn what_the_last_comparison_found_is_in_the_status_and_no_collection() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.policy("nightly", spec(&json!({"schedule": "@weekly"}))).await;
    world.reconcile_policy("nightly").await;
    let found = json!({"id": 3, "state": "succeeded", "phase": "compare", "params": {"mode": "check"},
        "summary": {"objects": 120, "rows": 120, "missing": 2},
        "findings": [{"kind": "missing", "key": "nar/1.nar.zst", "detail": "its row is live"}],
        "started_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"});
    let labels = json!({"niks3.dev/policy": "nightly", "niks3.dev/task": "fsck",
        "app.kubernetes.io/instance": "main"});
    ended(&world, "main-fsck-1", &labels, "Failed", &json!(found.to_string())).await;
    let status = world.reconcile_policy("nightly").await.status.unwrap();
    let fsck = status.caches[0].last_fsck.clone().unwrap();
    assert_eq!((fsck.result, fsck.objects, fsck.findings), (FsckResult::Damaged, Some(120), Some(2)));
    let expected =
        "False/DamageFound: Job main-fsck-1: of 120 objects 2 differ, 2 are left so: nar/1.nar.zst (missing)";
    assert_eq!(condition(&status, "LastFsckClean"), expected);
    assert!(condition(&status, "LastRunSucceeded").starts_with("Unknown/NeverRan"), "that is no collection");
    assert_eq!(condition(&status, "Ready"), "True/Ready: collections are scheduled");
    assert!(world.event_reasons().await.contains(&"DamageFound".to_owned()));
}

#[tokio::test]
async fn a_comparison_is_made_once_when_asked_for() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.policy("nightly", spec(&json!(null))).await;
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ Fsck").to_string();
    let annotations = json!({"niks3.dev/run-now": now});
    world.patch::<GCPolicy>("nightly", json!({"metadata": {"annotations": annotations}})).await;
    let told = world.reconcile_policy("nightly").await.status.unwrap().run_now.unwrap();
    let job = world.api::<Job>().get(&told.job_name.unwrap()).await.unwrap();
    assert_eq!(job.metadata.labels.unwrap()["niks3.dev/task"], "fsck");
    let args = job.spec.unwrap().template.spec.unwrap().containers.remove(0).args.unwrap();
    assert_eq!(args, ["fsck", "--result-file=/dev/termination-log"], "it looks, and changes nothing");
    assert_eq!(world.names::<CronJob>().await, ["main-gc"]);
}
