//! A pod starts with the configuration that its template was made with, whatever became of the cache since. A rollout
//! that stands still is what the Deployment's controller would write of it.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use niks3_operator::apply::Written;
use niks3_operator::crd::BinaryCache;
use niks3_operator::rollouts::Rollouts;
use serde_json::{Value, json};

use crate::world::{World, embedded};

/// Asks for something that the server's configuration says.
async fn edit(world: &World, name: &str, max_nar_size: &str) {
    let uploads = json!({"spec": {"server": {"uploads": {"maxNarSize": max_nar_size}}}});
    world.patch::<BinaryCache>(name, uploads).await;
    world.reconcile_cache(name).await;
}

/// What the Deployment's controller says of the newest template, with `more`, and a look after it.
async fn stands(world: &World, name: &str, more: Value) {
    let generation = world.api::<Deployment>().get(name).await.unwrap().metadata.generation;
    let mut status = json!({"observedGeneration": generation});
    status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.patch_status::<Deployment>(name, status).await;
    world.reconcile_cache(name).await;
}

/// Those are there as they were, and nothing else but what clients mount.
async fn there(world: &World, name: &str, expected: &[&ConfigMap]) {
    for config in expected {
        assert_eq!(world.api::<ConfigMap>().get(&config.name_any()).await.unwrap(), **config);
    }
    let names = expected.iter().map(|config| config.name_any()).chain([format!("{name}-client")]);
    let found: BTreeSet<String> = world.names::<ConfigMap>().await.into_iter().collect();
    assert_eq!(found, names.collect::<BTreeSet<_>>());
}

#[tokio::test]
async fn a_pod_that_starts_again_has_the_configuration_of_its_template() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.reconcile_cache("main").await;
    world.rolled_out("main").await;
    world.reconcile_cache("main").await;
    let first = world.server_config("main").await;
    there(&world, "main", &[&first]).await;

    edit(&world, "main", "7Gi").await;
    let second = world.server_config("main").await;
    assert_ne!(first.data, second.data);
    there(&world, "main", &[&first, &second]).await;
    // Neither what was said of the template before counts, nor a new pod that is not ready.
    world.reconcile_cache("main").await;
    let stuck = json!({"replicas": 3, "updatedReplicas": 1, "readyReplicas": 2, "availableReplicas": 2});
    stands(&world, "main", stuck.clone()).await;
    there(&world, "main", &[&first, &second]).await;
    // A correction that does not help either: pods of the first template are still what serves.
    edit(&world, "main", "8Gi").await;
    let third = world.server_config("main").await;
    stands(&world, "main", stuck).await;
    there(&world, "main", &[&first, &second, &third]).await;
    let only_new = json!({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 1, "availableReplicas": 1});
    stands(&world, "main", only_new).await;
    there(&world, "main", &[&first, &second, &third]).await;
    world.rolled_out("main").await;
    world.reconcile_cache("main").await;
    there(&world, "main", &[&third]).await;

    edit(&world, "main", "7Gi").await;
    let again = world.server_config("main").await;
    assert_eq!((again.name_any(), &again.data), (second.name_any(), &second.data));
    there(&world, "main", &[&third, &again]).await;
}

#[tokio::test]
async fn the_configuration_of_an_operator_before_goes_once_no_pod_needs_it() {
    let mut world = World::new().await;
    world.cache("main", embedded()).await;
    world.reconcile_cache("main").await;
    world.rolled_out("main").await;
    world.reconcile_cache("main").await;
    // It had one name for all of them, and changed it in its place.
    let now = world.server_config("main").await;
    let before = json!({"data": {"config.json": "{}"}, "metadata": {"name": "main-config",
        "labels": now.metadata.labels, "ownerReferences": now.metadata.owner_references}});
    let before = world.create::<ConfigMap>(before).await;
    let volume = json!([{"name": "config", "configMap": {"name": "main-config"}}]);
    let pod = json!({"spec": {"template": {"spec": {"volumes": volume}}}});
    world.api::<Deployment>().patch("main", &PatchParams::default(), &Patch::Strategic(pod)).await.unwrap();
    world.rolled_out("main").await;
    assert_eq!(world.server_config("main").await, before);
    let all = async |world: &World| {
        let mut names = world.names::<ConfigMap>().await;
        names.retain(|name| name.starts_with("main-config"));
        names
    };
    let both = ["main-config".to_owned(), now.name_any()];

    // Its pods have no turn yet.
    world.context.written = Written::default();
    world.context.rollouts = Rollouts::new(1);
    world.context.rollouts.note("another", true);
    world.reconcile_cache("main").await;
    assert_eq!(world.server_config("main").await, before);
    assert_eq!(all(&world).await, both);
    world.context.rollouts.note("another", false);
    world.reconcile_cache("main").await;
    assert_eq!(world.server_config("main").await.name_any(), now.name_any());
    assert_eq!(world.api::<ConfigMap>().get("main-config").await.unwrap(), before);
    world.rolled_out("main").await;
    world.reconcile_cache("main").await;
    assert_eq!(all(&world).await, [now.name_any()]);
}
