//! The way of docs/embedded.md from embedded servers to some of one's own.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{Patch, PatchParams};
use niks3_operator::crd::BinaryCache;
use serde_json::{Value, json};

use crate::world::{World, condition, embedded};

async fn replicas(world: &World) -> Option<i32> {
    world.api::<Deployment>().get("main").await.unwrap().spec.unwrap().replicas
}

#[tokio::test]
async fn a_cache_moves_to_servers_of_ones_own_and_keeps_its_address_and_keys() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    let retention =
        json!({"cacheRef": {"name": "main"}, "schedule": "17 3 * * *", "retention": {"olderThan": "720h"}});
    world.policy("nightly", retention).await;
    let before = world.reconcile_cache("main").await.status.unwrap();
    world.reconcile_policy("nightly").await;
    let edit = async |spec: Value| {
        world.patch::<BinaryCache>("main", json!({"spec": spec})).await;
        let status = world.reconcile_cache("main").await.status.unwrap();
        world.reconcile_policy("nightly").await;
        status
    };

    // Nothing is pushed or collected, and what is to be copied is there.
    let status = edit(json!({"suspend": "Server"})).await;
    assert!(condition(&status, "Ready").starts_with("False/Suspended"), "{status:?}");
    assert_eq!(replicas(&world).await, Some(0));
    let suspended = world.api::<CronJob>().get("main-gc").await.unwrap().spec.unwrap().suspend;
    assert_eq!(suspended, Some(true));
    for name in ["main-s3", "main-postgres"] {
        let set = world.api::<StatefulSet>().get(name).await.unwrap().spec.unwrap();
        assert_eq!(set.replicas, Some(1), "{name}");
        let kept = set.persistent_volume_claim_retention_policy.unwrap();
        assert_eq!(
            (kept.when_deleted.as_deref(), kept.when_scaled.as_deref()),
            (Some("Retain"), Some("Retain"))
        );
    }

    // One after the other, or both at once: the API server takes either.
    world.secret("nix-db", &[("uri", "postgres://niks3:secret@db/niks3")]).await;
    world.secret("nix-s3", &[("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")]).await;
    let status = edit(json!({"database": {"embedded": null, "urlSecretRef": {"name": "nix-db"}}})).await;
    assert!(condition(&status, "ResolvedRefs").starts_with("True/"), "{status:?}");
    assert_eq!(world.names::<StatefulSet>().await, ["main-s3"]);
    let s3 = json!({"bucket": world.namespace, "endpoint": "https://s3.example.org", "credentials": {"secretRef": {"name": "nix-s3"}}});
    let status = edit(json!({"storage": {"embedded": null, "s3": s3}})).await;
    assert!(condition(&status, "ResolvedRefs").starts_with("True/"), "{status:?}");
    assert_eq!(world.names::<StatefulSet>().await, [""; 0]);
    assert_eq!(world.names::<Service>().await, ["main"]);
    let secrets = ["main-postgres", "main-s3", "main-signing", "main-signing-1", "nix-db", "nix-s3"];
    assert_eq!(world.names::<Secret>().await, secrets, "what opens the old volumes stays with them");
    assert_eq!(replicas(&world).await, Some(0), "not before it is told to");

    let after = edit(json!({"suspend": "None"})).await;
    assert_eq!(replicas(&world).await, Some(2));
    assert_eq!((&after.url, &after.public_keys), (&before.url, &before.public_keys));
    let config = world.server_config("main").await.data.unwrap();
    let config: Value = serde_json::from_str(&config["config.json"]).unwrap();
    assert_eq!(config["s3"]["endpoint"], "https://s3.example.org");
    assert_eq!(config["s3"]["create_bucket"], false);
    let template = world.api::<Deployment>().get("main").await.unwrap().spec.unwrap().template;
    let volumes = serde_json::to_string(&template.spec.unwrap().volumes).unwrap();
    assert!(
        volumes.contains("nix-db") && volumes.contains("nix-s3") && !volumes.contains("main-s3"),
        "{volumes}"
    );

    // The database may go back to the old volume; the bucket may not: newer objects would be lost.
    let back = Patch::Merge(json!({"spec": {"storage": {"s3": null, "embedded": {}}}}));
    let refused = world.api::<BinaryCache>().patch("main", &PatchParams::default(), &back).await.unwrap_err();
    assert!(refused.to_string().contains("a cache on s3 cannot move back to embedded"), "{refused}");
}
