//! From the chart of the last release to this one, and its end, on an API server of the test's own.

use std::fmt::Debug;
use std::path::Path;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt as _};
use niks3_operator::crd::{self, BinaryCache, GCPolicy};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api_server::Server;
use crate::chart::helm;
use crate::world::{World, embedded};

const PREVIOUS: &str = "charts/previous/niks3-operator-0.1.0.tgz";
const RELEASE: [&str; 3] = ["niks3", "--namespace", "niks3-system"];

fn release(server: &Server, verb: &str, more: &[&str]) {
    let file = server.kubeconfig().to_str().unwrap();
    let output = helm(&[&[verb], &RELEASE[..], more, &["--kubeconfig", file]].concat());
    assert!(output.status.success(), "helm {verb}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The schemas of our kinds, as the API server has them.
async fn schemas(client: &Client) -> Vec<Value> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut schemas = Vec::new();
    for ours in crd::all() {
        let found = crds.get(&ours.name_any()).await.unwrap();
        schemas.push(serde_json::to_value(&found.spec.versions[0].schema).unwrap());
    }
    schemas
}

/// What changes with an object.
async fn of<K>(world: &World) -> Vec<String>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    let all = world.api::<K>().list(&ListParams::default()).await.unwrap().items;
    let look = |object: &K| {
        let (uid, version) = (object.uid().unwrap(), object.resource_version().unwrap());
        format!("{} {} {uid} {version}", K::kind(&()), object.name_any())
    };
    all.iter()
        .filter(|object| object.labels().contains_key("app.kubernetes.io/managed-by"))
        .map(look)
        .collect()
}

async fn children(world: &World) -> Vec<String> {
    [
        of::<ConfigMap>(world).await,
        of::<CronJob>(world).await,
        of::<Deployment>(world).await,
        of::<PodDisruptionBudget>(world).await,
        of::<Secret>(world).await,
        of::<Service>(world).await,
        of::<ServiceAccount>(world).await,
        of::<StatefulSet>(world).await,
    ]
    .concat()
}

#[tokio::test]
async fn caches_stay_as_they_are_through_an_upgrade_and_an_uninstall() {
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PREVIOUS).is_file(), "{PREVIOUS}");
    let server = Server::start(Vec::new()).await;
    release(&server, "install", &[PREVIOUS, "--create-namespace"]);
    let mut world = World::on(&server).await;
    let policy =
        json!({"cacheRef": {"name": "main"}, "schedule": "17 3 * * *", "retention": {"olderThan": "720h"}});
    for _ in 0..100 {
        // Established is not yet served by every handler.
        let list = world.api::<BinaryCache>().list(&ListParams::default()).await;
        if list.is_ok() && world.api::<GCPolicy>().list(&ListParams::default()).await.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    world.cache("main", embedded()).await;
    world.policy("nightly", policy).await;
    world.reconcile_cache("main").await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    let was = children(&world).await;
    assert!(was.len() >= 10, "{was:#?}");

    release(&server, "upgrade", &["charts/niks3-operator"]);
    let wanted: Vec<Value> =
        crd::all().iter().map(|crd| serde_json::to_value(&crd.spec.versions[0].schema).unwrap()).collect();
    assert_eq!(schemas(&world.client()).await, wanted, "the CRDs are the new ones");
    // An operator that has just started remembers nothing.
    let namespace = world.namespace;
    world = World::on(&server).await;
    world.namespace = namespace;
    let after = world.reconcile_cache("main").await;
    assert_eq!(children(&world).await, was, "nothing was written anew");
    assert_eq!((after.metadata.generation, after.status.unwrap().public_keys), (Some(1), status.public_keys));

    world.reconcile_policy("nightly").await;
    let was = children(&world).await;
    release(&server, "uninstall", &["--wait"]);
    assert_eq!(children(&world).await, was, "all of a cache stays");
    assert_eq!(schemas(&world.client()).await, wanted, "and so do the kinds");
    assert_eq!(world.names::<BinaryCache>().await, ["main"]);
    let operator: Api<Deployment> = Api::namespaced(world.client(), "niks3-system");
    assert!(
        operator.list(&ListParams::default()).await.unwrap().items.is_empty(),
        "the operator itself is gone"
    );
}
