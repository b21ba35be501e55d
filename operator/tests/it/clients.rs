//! What clients need, beside the cache and in the namespaces that its spec selects.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use niks3_operator::cache::apply::sweep;
use niks3_operator::crd::BinaryCache;
use serde_json::{Value, json};

use crate::world::{World, condition, embedded};

fn selecting(key: &str) -> Value {
    let mut spec = embedded();
    spec["clients"] = json!({"namespaceSelector": {"matchLabels": {key: "yes"}}});
    spec
}

async fn label(world: &World, namespace: &str, key: &str, value: Value) {
    let api: Api<Namespace> = Api::all(world.client());
    let patch = Patch::Merge(json!({"metadata": {"labels": {key: value}}}));
    api.patch(namespace, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn selected_namespaces_have_it_and_others_lose_it() {
    let (world, ci, other) = (World::new().await, World::new().await, World::new().await);
    let key = format!("{}/clients", world.namespace);
    let name = format!("main.{}.niks3", world.namespace);
    label(&world, &ci.namespace, &key, json!("yes")).await;
    world.cache("main", selecting(&key)).await;
    let said = condition(world.reconcile_cache("main").await.status.unwrap(), "Published");
    assert_eq!(said, format!("True/Accepted: ConfigMap {name} is in 1 other namespaces"));
    let original = world.api::<ConfigMap>().get("main-client").await.unwrap().data.unwrap();
    let copy = ci.api::<ConfigMap>().get(&name).await.unwrap();
    assert_eq!(copy.data.unwrap(), original);
    for at in ["NIKS3_SERVER_URL", "audience", "nix.conf", "public-keys"] {
        assert!(original.contains_key(at), "{at}");
    }
    world.faults.plan(None);
    world.reconcile_cache("main").await;
    assert_eq!(world.faults.writes(), [""; 0], "a second look only reads");
    // Somebody edits the one, and the other comes to be wanted.
    let edit = json!({"data": {"nix.conf": "extra-substituters = http://evil"}});
    ci.patch::<ConfigMap>(&name, edit).await;
    label(&world, &other.namespace, &key, json!("yes")).await;
    world.reconcile_cache("main").await;
    for place in [&ci, &other] {
        assert_eq!(place.api::<ConfigMap>().get(&name).await.unwrap().data.unwrap(), original);
    }
    label(&world, &ci.namespace, &key, Value::Null).await;
    world.reconcile_cache("main").await;
    assert_eq!(ci.names::<ConfigMap>().await, [""; 0]);
    assert_eq!(other.names::<ConfigMap>().await, std::slice::from_ref(&name));
    world.patch::<BinaryCache>("main", json!({"spec": {"clients": null}})).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert_eq!(other.names::<ConfigMap>().await, [""; 0]);
    assert!(status.conditions.iter().all(|condition| condition.type_ != "Published"));
}

#[tokio::test]
async fn what_somebody_else_made_is_left_alone_and_said() {
    let (world, ci) = (World::new().await, World::new().await);
    let key = format!("{}/clients", world.namespace);
    let name = format!("main.{}.niks3", world.namespace);
    label(&world, &ci.namespace, &key, json!("yes")).await;
    ci.create::<ConfigMap>(json!({"metadata": {"name": name}, "data": {"a": "theirs"}})).await;
    world.cache("main", selecting(&key)).await;
    let said = condition(world.reconcile_cache("main").await.status.unwrap(), "Published");
    assert!(
        said.starts_with(&format!("False/ApplyFailed: namespace {}: could not write", ci.namespace)),
        "{said}"
    );
    assert_eq!(ci.api::<ConfigMap>().get(&name).await.unwrap().data.unwrap()["a"], "theirs");
    let bad =
        json!({"matchLabels": null, "matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]});
    world.patch::<BinaryCache>("main", json!({"spec": {"clients": {"namespaceSelector": bad}}})).await;
    let said = condition(world.reconcile_cache("main").await.status.unwrap(), "Published");
    assert!(said.starts_with("False/InvalidSpec: clients.namespaceSelector: "), "{said}");
}

#[tokio::test]
async fn what_a_deleted_cache_leaves_behind_is_swept_up() {
    let (world, ci) = (World::new().await, World::new().await);
    let key = format!("{}/clients", world.namespace);
    label(&world, &ci.namespace, &key, json!("yes")).await;
    world.cache("main", selecting(&key)).await;
    world.cache("stays", selecting(&key)).await;
    world.reconcile_cache("main").await;
    world.reconcile_cache("stays").await;
    sweep(&world.context).await.unwrap();
    assert_eq!(ci.names::<ConfigMap>().await.len(), 2);
    world.api::<BinaryCache>().delete("main", &DeleteParams::default()).await.unwrap();
    sweep(&world.context).await.unwrap();
    assert_eq!(ci.names::<ConfigMap>().await, [format!("stays.{}.niks3", world.namespace)]);
}
