//! `niks3.dev/run-now`: one collection beside the schedule, and how Jobs run.

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::DeleteParams;
use niks3_operator::crd::{BinaryCache, GCPolicy};
use serde_json::{Value, json};

use crate::faults::Fault;
use crate::world::{World, embedded};

fn spec(more: &Value) -> Value {
    let mut spec =
        json!({"cacheRef": {"name": "main"}, "schedule": "17 3 * * *", "retention": {"olderThan": "720h"}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

async fn ask(world: &World, when: &str) {
    let annotations = json!({"niks3.dev/run-now": when});
    world.patch::<GCPolicy>("nightly", json!({"metadata": {"annotations": annotations}})).await;
}

fn seconds_from_now(seconds: i64) -> String {
    let at = Timestamp::now() + SignedDuration::from_secs(seconds);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[tokio::test]
async fn asked_once_a_collection_begins_once() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.policy("nightly", spec(&json!({"suspend": true}))).await;
    let now = seconds_from_now(-1);
    ask(&world, &now).await;
    // The answer to each call is lost once: the Job must be made once all the same.
    let object = world.api::<GCPolicy>().get("nightly").await.unwrap();
    for at in 0..14 {
        world.faults.plan(Some((at, Fault::AnswerLost)));
        let _ = Box::pin(niks3_operator::policy::reconcile(&object, &world.context)).await;
    }
    world.faults.plan(None);
    let status = world.reconcile_policy("nightly").await.status.unwrap();
    let jobs = world.names::<Job>().await;
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    let told = status.run_now.unwrap();
    assert_eq!((told.requested, told.job_name.as_ref()), (now.clone(), Some(&jobs[0])));
    assert!(world.event_reasons().await.contains(&"GCStarted".to_owned()));
    let job = world.api::<Job>().get(&jobs[0]).await.unwrap();
    assert_eq!(job.metadata.labels.unwrap()["niks3.dev/policy"], "nightly");
    assert_eq!(job.metadata.owner_references.unwrap()[0].kind, "GCPolicy");
    world.api::<Job>().delete(&jobs[0], &DeleteParams::background()).await.unwrap();
    world.reconcile_policy("nightly").await;
    assert_eq!(world.names::<Job>().await, [""; 0], "it was done");
    ask(&world, &seconds_from_now(0)).await;
    world.reconcile_policy("nightly").await;
    assert_eq!(world.names::<Job>().await.len(), 1, "another time asks again");
}

#[tokio::test]
async fn once_a_collection_may_only_look_or_ignore_the_limits() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.policy("nightly", spec(&json!({"safety": {"maxDeletePercent": 30, "maxDeleteObjects": 9}}))).await;
    let mut said = Vec::new();
    for (seconds, word) in [(-3, ""), (-2, " DryRun"), (-1, " OverrideSafety")] {
        ask(&world, &format!("{}{word}", seconds_from_now(seconds))).await;
        let told = world.reconcile_policy("nightly").await.status.unwrap().run_now.unwrap();
        let job = world.api::<Job>().get(&told.job_name.unwrap()).await.unwrap();
        let args = job.spec.unwrap().template.spec.unwrap().containers.remove(0).args.unwrap();
        let has = |flag: &str| args.iter().any(|arg| arg.starts_with(flag));
        said.push(["--dry-run", "--max-delete-percent=30", "--max-delete-objects=9"].map(has));
    }
    assert_eq!(said, [[false, true, true], [true, true, true], [false, false, false]]);
    let cron_job = world.api::<CronJob>().get("main-gc").await.unwrap().spec.unwrap().job_template;
    let args = cron_job.spec.unwrap().template.spec.unwrap().containers.remove(0).args.unwrap();
    assert!(args.contains(&"--max-delete-percent=30".to_owned()), "the schedule is as it was: {args:?}");
}

#[tokio::test]
async fn what_is_no_time_or_too_late_or_too_early_begins_nothing() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.policy("nightly", spec(&json!({"startingDeadlineSeconds": 60}))).await;
    for (when, said) in [
        ("now".to_owned(), "is no RFC 3339 time such as"),
        (seconds_from_now(-90), "it was asked for more than startingDeadlineSeconds (60) ago; ask again"),
        (seconds_from_now(90), "its time has not come"),
    ] {
        ask(&world, &when).await;
        let told = world.reconcile_policy("nightly").await.status.unwrap().run_now.unwrap();
        assert!(told.message.as_ref().is_some_and(|message| message.contains(said)), "{told:?}");
        assert_eq!(world.names::<Job>().await, [""; 0], "{when}");
    }
    assert!(world.event_reasons().await.contains(&"RunNowRefused".to_owned()));
    world.patch::<BinaryCache>("main", json!({"spec": {"suspend": "Server"}})).await;
    ask(&world, &seconds_from_now(-1)).await;
    let told = world.reconcile_policy("nightly").await.status.unwrap().run_now.unwrap();
    assert_eq!(told.message.as_deref(), Some("BinaryCache main is suspended"));
    world.patch::<BinaryCache>("main", json!({"spec": {"suspend": "None"}})).await;
    world.reconcile_policy("nightly").await;
    assert_eq!(world.names::<Job>().await.len(), 1, "it waited");
}

#[tokio::test]
async fn jobs_run_as_the_policy_says() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    let job = json!({"resources": {"requests": {"cpu": "1"}}, "activeDeadlineSeconds": 120, "backoffLimit": 0,
        "ttlSecondsAfterFinished": 600, "nodeSelector": {"disk": "ssd"}, "tolerations": [{"operator": "Exists"}]});
    let more = json!({"concurrencyPolicy": "Replace", "startingDeadlineSeconds": 60, "job": job});
    world.policy("nightly", spec(&more)).await;
    world.reconcile_policy("nightly").await;
    let cron_job = world.api::<CronJob>().get("main-gc").await.unwrap().spec.unwrap();
    assert_eq!(cron_job.concurrency_policy.as_deref(), Some("Replace"));
    assert_eq!(cron_job.starting_deadline_seconds, Some(60));
    let job = cron_job.job_template.spec.unwrap();
    assert_eq!((job.active_deadline_seconds, job.backoff_limit), (Some(120), Some(0)));
    assert_eq!(job.ttl_seconds_after_finished, Some(600));
    let pod = job.template.spec.unwrap();
    assert_eq!(pod.node_selector.unwrap()["disk"], "ssd");
    assert_eq!(pod.tolerations.unwrap()[0].operator.as_deref(), Some("Exists"));
    assert_eq!(pod.containers[0].resources.as_ref().unwrap().requests.as_ref().unwrap()["cpu"].0, "1");
}
