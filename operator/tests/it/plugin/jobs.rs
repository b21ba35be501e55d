//! `kubectl niks3 gc`, `why` and `migrate`: what is done in Jobs.

use std::process::Output;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::ListParams;
use niks3_operator::crd::{BinaryCache, GCPolicy};
use niks3_operator::policy::run_now;
use serde_json::{Value, json};

use super::{command, error, policy, printed};
use crate::world::{World, embedded};

/// What the Job's controller and its pod leave behind.
async fn finish(world: &World, job: &str, result: Value) {
    let spec = world.api::<Job>().get(job).await.unwrap().spec.unwrap().template.spec.unwrap();
    let name = format!("{job}-a");
    let labels = json!({"batch.kubernetes.io/job-name": job});
    world.create::<Pod>(json!({"metadata": {"name": name, "labels": labels}, "spec": spec})).await;
    let terminated = json!({"exitCode": 0, "message": result.to_string()});
    let container = json!({"name": "gc", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": terminated}});
    world.patch_status::<Pod>(&name, json!({"phase": "Succeeded", "containerStatuses": [container]})).await;
    let (begun, done) = ("2026-01-01T00:00:00Z", Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let condition = |about: &str| json!({"type": about, "status": "True", "lastTransitionTime": done});
    let status = json!({"startTime": begun, "completionTime": done, "succeeded": 1, "uncountedTerminatedPods": {},
        "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]});
    world.patch_status::<Job>(job, status).await;
}

fn outcome(state: &str, dry_run: bool) -> Value {
    let mut outcome = json!({"state": state, "phase": "vacuum_tables",
        "params": {"older_than": "720h", "failed_uploads_older_than": "6h", "force": false, "dry_run": dry_run},
        "stats": {"failed_uploads_deleted": 0, "old_closures_deleted": 2, "objects_marked_for_deletion": 3,
            "objects_deleted_after_grace_period": 4, "objects_failed_to_delete": 0, "bytes_freed": 2048},
        "started_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"});
    if state == "failed" {
        outcome["reason"] = json!("SafetyLimitReached");
        outcome["error"] = json!("60 % of the objects would go, 50 % are allowed");
    }
    outcome
}

/// One `gc` with an operator beside it; the Jobs of the namespace end with `outcome`.
async fn collect(world: &World, arguments: &[&str], outcome: Value) -> (Output, Vec<String>) {
    let child = command(&world.namespace, &[&["gc", "nightly"], arguments].concat()).await;
    let mut running = tokio::spawn(async move { { child }.output().await.unwrap() });
    let mut flags = Vec::new();
    loop {
        let told = world.reconcile_policy("nightly").await.status.unwrap().run_now;
        let jobs = world.api::<Job>().list(&ListParams::default()).await.unwrap().items;
        let made: Vec<String> = told.iter().flat_map(run_now::jobs).cloned().collect();
        let open = jobs.iter().filter(|job| {
            made.contains(&job.name_any())
                && job.status.as_ref().is_none_or(|status| status.conditions.is_none())
        });
        for job in open {
            let container = &job.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0];
            flags = container.args.clone().unwrap();
            finish(world, &job.name_any(), outcome.clone()).await;
            world.reconcile_policy("nightly").await;
        }
        tokio::select! {
            output = &mut running => return (output.unwrap(), flags),
            () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {}
        }
    }
}

#[tokio::test]
async fn gc_asks_the_operator_and_waits_for_the_result() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.policy("nightly", policy()).await;
    let (output, flags) = collect(&world, &[], outcome("succeeded", false)).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "2 closures expired, 3 objects marked, 4 deleted, 2.0 KiB freed\n");
    assert!(
        flags.contains(&"--max-delete-percent=50".to_owned()) && !flags.contains(&"--dry-run".to_owned())
    );
    // The times of Jobs are in seconds, and the last one counts.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let (output, flags) = collect(&world, &["--dry-run"], outcome("succeeded", true)).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("dry run: 2 closures expired"), "{said}");
    assert!(flags.contains(&"--dry-run".to_owned()), "{flags:?}");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let (output, flags) = collect(&world, &["--override-safety"], outcome("failed", false)).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("deleted nothing: 60 % of the objects would go"), "{said}");
    assert!(flags.iter().all(|flag| !flag.contains("max-delete")), "{flags:?}");
}

#[tokio::test]
async fn gc_of_several_caches_says_what_became_of_each() {
    let world = World::new().await;
    for name in ["main", "other", "third"] {
        world.cache(name, embedded()).await;
    }
    world.patch::<BinaryCache>("third", json!({"spec": {"suspend": "Server"}})).await;
    let mut all = policy();
    all["cacheRef"] = json!(null);
    all["cacheSelector"] = json!({});
    world.policy("nightly", all).await;
    let (output, _) = collect(&world, &[], outcome("succeeded", false)).await;
    let counts = "2 closures expired, 3 objects marked, 4 deleted, 2.0 KiB freed\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("main: {counts}other: {counts}"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("BinaryCache third is not collected yet: BinaryCache third is suspended"),
        "{said}"
    );
    let screen = printed(&world, &["status", "other"]).await;
    assert!(screen.contains("nightly") && screen.contains(counts.trim_end()), "{screen}");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let (output, _) = collect(&world, &[], outcome("failed", false)).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("2 of 2 collections did not succeed:\nJob main-gc-"), "{said}");
    assert!(said.contains("60 % of the objects would go"), "{said}");
}

#[tokio::test]
async fn gc_takes_back_what_cannot_begin() {
    let world = World::new().await;
    let mut suspended = embedded();
    suspended["suspend"] = json!("Server");
    world.cache("main", suspended).await;
    world.policy("nightly", policy()).await;
    let (output, _) = collect(&world, &[], json!({})).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no collection was begun: BinaryCache main is suspended"), "{said}");
    let left = world.api::<GCPolicy>().get("nightly").await.unwrap();
    assert!(
        left.annotations().is_empty(),
        "it would begin when nobody waits for it: {:?}",
        left.annotations()
    );
    let said = error(&world, &["gc", "nightly", "--timeout", "1s"]).await;
    assert!(said.contains("the operator did not answer; does it run?"), "{said}");
}

/// A command that made a Job and waits for its end.
async fn begun(world: &World, arguments: &[&str]) -> (tokio::task::JoinHandle<Output>, Job) {
    let child = command(&world.namespace, arguments).await;
    let running = tokio::spawn(async move { { child }.output().await.unwrap() });
    loop {
        let jobs = world.api::<Job>().list(&ListParams::default()).await.unwrap().items;
        match jobs.into_iter().next() {
            Some(job) => return (running, job),
            None => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

#[tokio::test]
async fn why_asks_in_a_job_that_is_no_collection() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    let early = error(&world, &["why", "/nix/store/a"]).await;
    assert!(early.contains("no GCPolicy collects it; make one"), "{early}");
    world.policy("nightly", policy()).await;
    world.reconcile_policy("nightly").await;
    let (running, job) = begun(&world, &["why", "/nix/store/a"]).await;
    let name = job.name_any();
    assert!(name.starts_with("main-why-"), "{name}");
    let spec = job.spec.clone().unwrap();
    assert_eq!((spec.backoff_limit, spec.active_deadline_seconds), (Some(0), Some(120)));
    let pod = spec.template.spec.clone().unwrap();
    assert_eq!(pod.service_account_name.as_deref(), Some("main-gc"));
    assert_eq!(pod.containers[0].args.clone().unwrap(), ["why", "--", "/nix/store/a"]);
    for labels in [job.metadata.labels.clone(), spec.template.metadata.unwrap().labels] {
        let labels = labels.unwrap();
        assert!(!labels.contains_key("niks3.dev/policy"), "the operator would take it for a collection");
        assert_eq!(labels["app.kubernetes.io/component"], "gc", "network policies know it by this");
    }
    finish(&world, &name, json!("kept")).await;
    let output = running.await.unwrap();
    // Without a kubelet the log is empty; that it was asked for is all that can be seen here.
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(world.names::<Job>().await, [""; 0], "it cleans up");
    let status = world.reconcile_policy("nightly").await.status.unwrap();
    assert!(status.caches[0].last_run.is_none());
}

#[tokio::test]
async fn migrate_runs_the_pod_of_the_server_to_an_end() {
    let world = World::new().await;
    let mut spec = embedded();
    spec["database"]["migrations"] = json!("Manual");
    let proxy = json!({"name": "proxy", "image": "proxy:1"});
    spec["server"] = json!({"podTemplate": {"spec": {"containers": [{"name": "server", "args": ["serve", "--debug"]}, proxy]}}});
    world.cache("main", spec).await;
    let early = error(&world, &["migrate"]).await;
    assert!(early.contains("has no pods yet whose database could be asked"), "{early}");
    world.reconcile_cache("main").await;
    let (running, job) = begun(&world, &["migrate"]).await;
    let name = job.name_any();
    assert!(name.starts_with("main-migrate-"), "{name}");
    let spec = job.spec.clone().unwrap();
    assert_eq!((spec.backoff_limit, spec.active_deadline_seconds), (Some(0), Some(3600)));
    let pod = spec.template.spec.clone().unwrap();
    assert_eq!(
        (pod.service_account_name.as_deref(), pod.restart_policy.as_deref()),
        (Some("main"), Some("Never"))
    );
    assert_eq!(pod.containers.len(), 1, "another one would keep it from ending");
    let container = &pod.containers[0];
    assert_eq!(container.args.clone().unwrap(), ["--debug", "migrate"]);
    assert!(container.readiness_probe.is_none() && container.liveness_probe.is_none());
    let deployment =
        world.api::<Deployment>().get("main").await.unwrap().spec.unwrap().template.spec.unwrap();
    let server = deployment.containers.iter().find(|container| container.name == "server").unwrap();
    assert_eq!((&container.image, &container.command), (&server.image, &server.command));
    assert_eq!((&container.env, &container.volume_mounts), (&server.env, &server.volume_mounts));
    assert_eq!(container.security_context, server.security_context);
    assert_eq!((pod.volumes, pod.security_context), (deployment.volumes, deployment.security_context));
    let labels = spec.template.metadata.unwrap().labels.unwrap();
    assert_eq!(
        labels["app.kubernetes.io/component"], "migration",
        "no Service leads there, and the database lets it in"
    );
    finish(&world, &name, json!("")).await;
    let output = running.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = format!("The tables of BinaryCache {}/main are up to date", world.namespace);
    assert!(said.starts_with(&expected), "{said}");
    assert_eq!(world.names::<Job>().await, [""; 0], "it cleans up");
}
