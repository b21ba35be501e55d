//! What keeps pods and children from coming into being is in the conditions, and goes by itself.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, Service};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use niks3_operator::cache;
use niks3_operator::crd::{BinaryCache, BinaryCacheStatus};
use serde_json::{Value, json};

use crate::world::{World, condition, embedded};

fn waiting(reason: &str, message: &str) -> Value {
    json!({"containerStatuses": [{"name": "server", "image": "niks3:9", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"waiting": {"reason": reason, "message": message}}}]})
}

async fn look(world: &World) -> BinaryCacheStatus {
    world.reconcile_cache("main").await.status.unwrap()
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_named_until_it_can() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    look(&world).await;
    world.pod("main-server", "server", waiting("ErrImagePull", "not found")).await;
    let status = look(&world).await;
    let why = "0 of 2 pods are ready; pod main-server: image niks3:9 cannot be pulled: not found";
    assert_eq!(condition(&status, "Available"), format!("False/ImagePullBackOff: {why}"));
    assert_eq!(condition(&status, "Ready"), format!("False/ImagePullBackOff: {why}"));
    let rolling = condition(&status, "Progressing");
    assert!(
        rolling.starts_with("True/RollingOut: 0 of 2 pods are up to date; ImagePullBackOff: "),
        "{rolling}"
    );
    world.api::<Pod>().delete("main-server", &DeleteParams::default()).await.unwrap();
    let generation = world.api::<Deployment>().get("main").await.unwrap().metadata.generation;
    let well = json!({"observedGeneration": generation, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
        "availableReplicas": 2});
    world.patch_status::<Deployment>("main", well).await;
    let status = look(&world).await;
    assert!(condition(&status, "Ready").starts_with("True/Ready"), "{status:?}");
}

#[tokio::test]
async fn a_database_of_ours_that_does_not_run_says_why() {
    let world = World::new().await;
    let mut spec = embedded();
    spec["database"]["embedded"] = json!({"storageClassName": format!("class-of-{}", world.namespace)});
    world.cache("main", spec).await;
    look(&world).await;
    let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "pod has unbound immediate PersistentVolumeClaims"}]});
    world.pod("main-postgres", "postgres", unscheduled).await;
    world.pod("main-s3", "s3", waiting("CrashLoopBackOff", "back-off 5m0s")).await;
    let status = look(&world).await;
    let missing =
        format!("False/StorageClassNotFound: StorageClass class-of-{} does not exist", world.namespace);
    assert!(condition(&status, "DatabaseReady").starts_with(&missing), "{status:?}");
    assert_eq!(condition(&status, "StorageReady"), "False/CrashLoopBackOff: pod main-s3: back-off 5m0s");
    assert!(condition(&status, "Ready").starts_with("False/StorageClassNotFound"));
    assert!(world.event_reasons().await.contains(&"StorageClassNotFound".to_owned()));
    let class: StorageClass = serde_json::from_value(
        json!({"metadata": {"name": format!("class-of-{}", world.namespace)}, "provisioner": "example.org/none"}),
    )
    .unwrap();
    Api::<StorageClass>::all(world.client()).create(&PostParams::default(), &class).await.unwrap();
    let said = condition(look(&world).await, "DatabaseReady");
    assert_eq!(
        said,
        "False/Unschedulable: pod main-postgres: pod has unbound immediate PersistentVolumeClaims"
    );
}

/// What an older operator made stays as it is in this, and a pod that waits for a correction is named.
#[tokio::test]
async fn a_pod_that_its_stateful_set_keeps_a_correction_from_is_named() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    look(&world).await;
    let sets = world.api::<StatefulSet>();
    let mut old = sets.get("main-postgres").await.unwrap();
    assert_eq!(old.spec.as_ref().unwrap().pod_management_policy.as_deref(), Some("Parallel"));
    sets.delete("main-postgres", &DeleteParams::default()).await.unwrap();
    old.metadata.resource_version = None;
    old.metadata.managed_fields = None;
    old.spec.as_mut().unwrap().pod_management_policy = Some("OrderedReady".to_owned());
    sets.create(&PostParams::default(), &old).await.unwrap();
    world.patch_status::<StatefulSet>("main-postgres", json!({"replicas": 1, "updateRevision": "new"})).await;
    let spec = json!({"spec": {"database": {"embedded": {"image": "postgres:mended"}}}});
    world.patch::<BinaryCache>("main", spec).await;
    look(&world).await;
    let spec = sets.get("main-postgres").await.unwrap().spec.unwrap();
    assert_eq!(spec.pod_management_policy.as_deref(), Some("OrderedReady"));
    assert_eq!(spec.template.spec.unwrap().containers[0].image.as_deref(), Some("postgres:mended"));

    world.pod("main-postgres-0", "postgres", waiting("ErrImagePull", "not found")).await;
    let revision = async |hash: &str| {
        let labels = json!({"metadata": {"labels": {"controller-revision-hash": hash}}});
        world.patch::<Pod>("main-postgres-0", labels).await;
        condition(look(&world).await, "DatabaseReady")
    };
    let remedy = format!("kubectl delete pod -n {} main-postgres-0", world.namespace);
    let said = revision("old").await;
    assert!(
        said.starts_with("False/ImagePullBackOff: pod main-postgres-0") && said.ends_with(&remedy),
        "{said}"
    );
    let said = revision("new").await;
    assert!(!said.contains("kubectl"), "that is the new one: {said}");
    world.faults.plan(None);
    look(&world).await;
    assert_eq!(world.faults.writes(), [""; 0], "the API server is not asked for what it refuses");
}

/// Reconciles to the end that it must have, and gives back the status that was written on the way.
async fn fails(world: &World) -> BinaryCacheStatus {
    let object = world.api::<BinaryCache>().get("main").await.unwrap();
    let error = Box::pin(cache::reconcile(&object, &world.context)).await.unwrap_err();
    assert_eq!(error.reason(), "ApplyFailed");
    world.api::<BinaryCache>().get("main").await.unwrap().status.unwrap()
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_named() {
    let world = World::new().await;
    let quota: ResourceQuota =
        serde_json::from_value(json!({"metadata": {"name": "small"}, "spec": {"hard": {"services": "1"}}}))
            .unwrap();
    world.api::<ResourceQuota>().create(&PostParams::default(), &quota).await.unwrap();
    let counted = json!({"hard": {"services": "1"}, "used": {"services": "1"}});
    world.patch_status::<ResourceQuota>("small", counted).await;
    world.cache("main", embedded()).await;
    let mut status = BinaryCacheStatus::default();
    for _ in 0..50 {
        status = fails(&world).await;
        // The API server's own view of quotas comes by a watch.
        if condition(&status, "Ready").contains("exceeded quota") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let said = condition(&status, "Ready");
    assert!(said.starts_with("False/QuotaExceeded: could not apply Service main"), "{said}");
    assert!(said.contains("exceeded quota: small, requested: services=1"), "{said}");
    assert!(world.event_reasons().await.contains(&"QuotaExceeded".to_owned()));
    world.api::<ResourceQuota>().delete("small", &DeleteParams::default()).await.unwrap();
    for _ in 0..50 {
        let object = world.api::<BinaryCache>().get("main").await.unwrap();
        if Box::pin(cache::reconcile(&object, &world.context)).await.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(!condition(look(&world).await, "Ready").contains("Quota"));
}

#[tokio::test]
async fn pods_that_a_quota_keeps_away_are_named() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    look(&world).await;
    let at = "2026-01-01T00:00:00Z";
    let failure = json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "lastUpdateTime": at,
        "lastTransitionTime": at, "message": r#"pods "main-1" is forbidden: exceeded quota: small"#});
    world.patch_status::<Deployment>("main", json!({"conditions": [failure]})).await;
    let said = condition(look(&world).await, "Ready");
    assert_eq!(
        said,
        r#"False/QuotaExceeded: 0 of 2 pods are ready; pods "main-1" is forbidden: exceeded quota: small"#
    );
}

#[tokio::test]
async fn what_admission_refuses_is_named_and_tried_again() {
    let world = World::new().await;
    let name = format!("no-services-in-{}", world.namespace);
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
            "resources": ["services"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}},
        "validations": [{"expression": "false", "message": "ask the platform team"}]}}))
    .unwrap();
    let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(
        json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}}),
    )
    .unwrap();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client());
    policies.create(&PostParams::default(), &policy).await.unwrap();
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    let probe: Service =
        serde_json::from_value(json!({"metadata": {"name": "probe"}, "spec": {"ports": [{"port": 1}]}}))
            .unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    // A policy is in force a moment after it was made, and a moment longer than it lives.
    let in_force = async |wanted: bool| {
        for _ in 0..200 {
            if world.api::<Service>().create(&dry_run, &probe).await.is_err() == wanted {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("the policy should be in force: {wanted}");
    };
    in_force(true).await;
    world.cache("main", embedded()).await;
    let said = condition(fails(&world).await, "Ready");
    assert!(said.starts_with("False/AdmissionRefused: could not apply Service main"), "{said}");
    assert!(said.contains("ask the platform team"), "{said}");
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    policies.delete(&name, &DeleteParams::default()).await.unwrap();
    in_force(false).await;
    assert!(!condition(look(&world).await, "Ready").contains("Admission"));
}
