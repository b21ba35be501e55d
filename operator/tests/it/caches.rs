//! BinaryCaches: what is made, changed, kept and said.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use niks3_operator::crd::BinaryCache;
use niks3_protocol::nix::SecretKey;
use serde_json::json;

use crate::world::{World, condition, embedded, own};

#[tokio::test]
async fn an_embedded_cache_gets_its_children_and_says_how_it_stands() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    let cache = world.reconcile_cache("main").await;
    assert_eq!(world.names::<Deployment>().await, ["main"]);
    assert_eq!(world.names::<StatefulSet>().await, ["main-postgres", "main-s3"]);
    assert_eq!(world.names::<Service>().await, ["main", "main-postgres", "main-s3"]);
    let config = world.server_config("main").await;
    assert_eq!(world.names::<ConfigMap>().await, ["main-client", &*config.name_any()]);
    assert_eq!(config.immutable, Some(true), "pods of one template have one configuration");
    assert_eq!(world.names::<Secret>().await, ["main-postgres", "main-s3", "main-signing", "main-signing-1"]);
    assert_eq!(world.names::<ServiceAccount>().await, ["main"]);
    assert_eq!(world.names::<PodDisruptionBudget>().await, ["main"]);
    let status = cache.status.unwrap();
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(status.url.as_deref(), Some(&*format!("http://main.{}.svc", world.namespace)));
    assert_eq!(status.auth_audience.as_deref(), Some(&*format!("niks3.dev/{}/main", world.namespace)));
    assert!(status.public_keys[0].starts_with(&format!("main.{}.svc-1:", world.namespace)));
    assert_eq!(condition(&status, "Accepted"), "True/Accepted: the spec can be carried out");
    assert_eq!(condition(&status, "Available"), "False/MinimumReplicasUnavailable: 0 of 2 pods are ready");
    assert_eq!(
        condition(&status, "DatabaseReady"),
        "Unknown/ServerUnreachable: no pod of the server runs yet"
    );
    assert!(condition(&status, "Ready").starts_with("False/MinimumReplicasUnavailable"));
    let reasons = world.event_reasons().await;
    assert!(
        ["SecretCreated", "SigningKeyGenerated"].iter().all(|reason| reasons.contains(&(*reason).to_owned()))
    );
    assert!(!reasons.contains(&"RolloutStarted".to_owned()), "nothing ran before");
}

#[tokio::test]
async fn a_second_look_changes_nothing() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    let first = world.reconcile_cache("main").await;
    let deployment = world.api::<Deployment>().get("main").await.unwrap();
    let second = world.reconcile_cache("main").await;
    assert_eq!(first.resource_version(), second.resource_version());
    let after = world.api::<Deployment>().get("main").await.unwrap();
    assert_eq!(deployment.resource_version(), after.resource_version());
    assert_eq!(first.status.unwrap().public_keys, second.status.unwrap().public_keys);
}

#[tokio::test]
async fn a_missing_secret_is_named_and_found_when_it_comes() {
    let world = World::new().await;
    world.secret("db", &[("uri", "postgres://a")]).await;
    world.cache("main", own("missing-secret")).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert_eq!(condition(&status, "ResolvedRefs"), "False/SecretNotFound: Secret s3 does not exist");
    assert_eq!(condition(&status, "Ready"), "False/SecretNotFound: Secret s3 does not exist");
    assert!(world.event_reasons().await.contains(&"SecretNotFound".to_owned()));
    world.secret("s3", &[("AWS_ACCESS_KEY_ID", "a")]).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    let expected = "False/SecretKeyMissing: Secret s3 has no key AWS_SECRET_ACCESS_KEY";
    assert_eq!(condition(&status, "ResolvedRefs"), expected);
    world.patch::<Secret>("s3", json!({"stringData": {"AWS_SECRET_ACCESS_KEY": "b"}})).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert!(condition(&status, "ResolvedRefs").starts_with("True/Resolved"));
}

#[tokio::test]
async fn what_is_no_longer_wanted_goes_and_what_cannot_be_made_again_stays() {
    let world = World::new().await;
    world.secret("db", &[("uri", "postgres://a")]).await;
    world.secret("s3", &[("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")]).await;
    world.cache("main", embedded()).await;
    world.reconcile_cache("main").await;
    let mut spec = own("moved-away");
    spec["storage"]["embedded"] = json!(null);
    spec["database"]["embedded"] = json!(null);
    spec["server"] = json!({"replicas": 1});
    world.patch::<BinaryCache>("main", json!({"spec": spec})).await;
    world.reconcile_cache("main").await;
    assert_eq!(world.names::<StatefulSet>().await, [""; 0]);
    assert_eq!(world.names::<Service>().await, ["main"]);
    assert_eq!(world.names::<PodDisruptionBudget>().await, [""; 0]);
    assert_eq!(
        world.names::<Secret>().await,
        ["db", "main-postgres", "main-s3", "main-signing", "main-signing-1", "s3"]
    );
}

#[tokio::test]
async fn a_database_of_ours_keeps_its_account_when_the_server_gets_another() {
    let world = World::new().await;
    world.create::<ServiceAccount>(json!({"metadata": {"name": "robot"}})).await;
    world.cache("main", embedded()).await;
    world.reconcile_cache("main").await;
    let identity = json!({"workloadIdentity": {"serviceAccountName": "robot"}});
    let storage = json!({"embedded": null, "s3": {"bucket": world.namespace, "credentials": identity}});
    world.patch::<BinaryCache>("main", json!({"spec": {"storage": storage}})).await;
    world.reconcile_cache("main").await;
    assert_eq!(world.names::<StatefulSet>().await, ["main-postgres"]);
    assert_eq!(world.names::<ServiceAccount>().await, ["main", "robot"]);
}

#[tokio::test]
async fn what_is_no_key_is_named_until_it_is_one() {
    let world = World::new().await;
    world.secret("brought", &[("key", "nonsense")]).await;
    let mut spec = embedded();
    let secret = json!({"name": "brought", "key": "key"});
    spec["signing"] = json!({"keys": [{"name": "main-1", "secretKeyRef": secret}]});
    world.cache("main", spec).await;
    let said = condition(world.reconcile_cache("main").await.status, "SigningKeysReady");
    assert!(said.starts_with("False/InvalidKey: key key of Secret brought "), "{said}");
    assert!(!said.contains("nonsense"), "whatever it is, it may be a secret");
    assert!(world.event_reasons().await.contains(&"InvalidKey".to_owned()));
    let key = SecretKey::from_seed("main-1", [7; 32]).unwrap().to_secret_text();
    world.patch::<Secret>("brought", json!({"stringData": {"key": &*key}})).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert!(!condition(&status, "SigningKeysReady").contains("InvalidKey"), "{status:?}");
    assert!(status.public_keys[0].starts_with("main-1:"), "{status:?}");
}

#[tokio::test]
async fn a_bucket_has_one_cache() {
    let world = World::new().await;
    world.cache("first", own("one-cache")).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    world.cache("second", own("one-cache")).await;
    let status = world.reconcile_cache("second").await.status.unwrap();
    assert!(condition(&status, "Accepted").starts_with("False/BucketConflict: BinaryCache"), "{status:?}");
    assert_eq!(world.names::<Deployment>().await, [""; 0]);
    let status = world.reconcile_cache("first").await.status.unwrap();
    assert!(condition(&status, "Accepted").starts_with("True"));
    // The bucket is free when that one is gone.
    world.api::<BinaryCache>().delete("first", &DeleteParams::default()).await.unwrap();
    let status = world.reconcile_cache("second").await.status.unwrap();
    assert!(condition(&status, "Accepted").starts_with("True"), "{status:?}");
    assert!(world.names::<Deployment>().await.contains(&"second".to_owned()));
}

#[tokio::test]
async fn deleting_a_cache_keeps_keys_and_another_of_its_name_takes_them_up() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    let before = world.reconcile_cache("main").await.status.unwrap().public_keys;
    world.api::<BinaryCache>().delete("main", &DeleteParams::background()).await.unwrap();
    for _ in 0..300 {
        let secrets = world.names::<Secret>().await.len();
        if world.names::<Deployment>().await.is_empty()
            && world.names::<Service>().await.is_empty()
            && secrets == 3
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.names::<Deployment>().await, [""; 0], "the garbage collector takes children");
    assert_eq!(world.names::<Secret>().await, ["main-postgres", "main-s3", "main-signing-1"]);
    world.cache("main", embedded()).await;
    assert_eq!(world.reconcile_cache("main").await.status.unwrap().public_keys, before);
}

#[tokio::test]
async fn a_secret_in_the_way_is_not_touched() {
    let world = World::new().await;
    world.secret("main-signing-1", &[("secret", "mine")]).await;
    world.cache("main", embedded()).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    let said = condition(&status, "Accepted");
    assert!(said.starts_with("False/InvalidSpec: Secret main-signing-1 is in the way"), "{said}");
}

#[tokio::test]
async fn who_edits_a_child_is_overruled() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.reconcile_cache("main").await;
    world.patch::<Deployment>("main", json!({"spec": {"replicas": 7}})).await;
    world.api::<Service>().delete("main", &DeleteParams::background()).await.unwrap();
    world.reconcile_cache("main").await;
    let deployment = world.api::<Deployment>().get("main").await.unwrap();
    assert_eq!(deployment.spec.unwrap().replicas, Some(2));
    assert_eq!(world.names::<Service>().await, ["main", "main-postgres", "main-s3"]);
}
