//! However a spec was edited before, the children end where the last spec alone would have led.

use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::{Resource, ResourceExt as _};
use niks3_operator::crd::BinaryCache;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::world::{World, embedded};

/// Each costs four reconciliations.
const CASES: usize = 6;
/// Other specs each time; with the number that a failure names, the same again.
const SEED: &str = "NIKS3_TEST_SEED";

/// One of some values of a field, or none.
fn field(name: &'static str, values: Vec<Value>) -> impl Strategy<Value = Option<(&'static str, Value)>> {
    prop::option::of(prop::sample::select(values).prop_map(move |value| (name, value)))
}

/// A valid spec of a server.
fn server() -> impl Strategy<Value = Value> {
    let container = json!({"name": "server", "env": [{"name": "A", "value": "b"}]});
    let side = json!({"name": "side", "image": "side:1"});
    let fields = (
        field("replicas", vec![json!(1), json!(3)]),
        field("readProxy", vec![json!({"mode": "Proxy"}), json!({"mode": "Redirect"})]),
        field(
            "uploads",
            vec![json!({"verify": "Hash", "boundAddresses": "Enabled"}), json!({"presignExpiry": "1h"})],
        ),
        field("service", vec![json!({"type": "NodePort"}), json!({"annotations": {"a": "b"}})]),
        field(
            "ingress",
            vec![json!({"host": "a.example.org"}), json!({"host": "b.example.org", "className": "c"})],
        ),
        field("networkPolicy", vec![json!({"mode": "Enabled"})]),
        field("podDisruptionBudget", vec![json!({"mode": "Disabled"}), json!({"maxUnavailable": "50%"})]),
        field(
            "scheduling",
            vec![json!({"nodeSelector": {"a": "b"}}), json!({"topologySpreadConstraints": []})],
        ),
        field("imagePullSecrets", vec![json!([{"name": "a"}]), json!([{"name": "b"}, {"name": "a"}])]),
        field(
            "podTemplate",
            vec![
                json!({"spec": {"containers": [container, side]}}),
                json!({"metadata": {"labels": {"a": "b"}}}),
            ],
        ),
    );
    fields.prop_map(|(a, b, c, d, e, f, g, h, i, j)| {
        let set = [a, b, c, d, e, f, g, h, i, j].into_iter().flatten();
        set.map(|(name, value)| (name.to_owned(), value)).collect::<serde_json::Map<_, _>>().into()
    })
}

pub(crate) fn spec() -> impl Strategy<Value = Value> {
    let limits = json!({"openUploads": 5, "closureBodySize": "64Mi", "callTimeout": "1m"});
    let limits = field("limits", vec![limits, json!({"callsBurst": 9})]);
    let proxy = json!({"proxy": {"addresses": ["10.0.0.1"]}});
    let lists = json!({"ca": {"secretKeyRef": {"name": "a"}}, "crl": {"configMapKeyRef": {"name": "b"}}});
    let auth = prop_oneof![
        field("clientCertificates", vec![proxy, lists]),
        field(
            "oidc",
            vec![
                json!([{"name": "a", "issuer": "https://a.example.org", "audience": "https://cache.example.org",
            "rules": [{"name": "r", "subjects": ["s"], "permissions": ["Push"]}]}])
            ]
        ),
        field(
            "kubernetes",
            vec![json!({"rules": [{"name": "ci", "permissions": ["Push", "Pin"],
            "serviceAccounts": [{"namespace": "ci", "name": "builder"}]}]})]
        ),
    ];
    let autoscaling =
        field("autoscaling", vec![json!({"maxReplicas": 4}), json!({"minReplicas": 1, "maxReplicas": 2})]);
    let rotation =
        vec![json!({"resign": "None"}), json!({"resignPerSecond": 9}), json!({"interval": "888h"})];
    let rotation = field("rotation", rotation);
    let suspend = prop::sample::select(vec!["None", "Server"]);
    let parts = (server(), limits, autoscaling, auth, rotation, suspend);
    parts.prop_map(|(server, limits, autoscaling, auth, rotation, suspend)| {
        let mut spec = embedded();
        spec["server"] = server;
        spec["suspend"] = suspend.into();
        // Left out, it is named for the address that the cache had when its key was made.
        spec["signing"] = json!({"keys": [{"name": "cache-1"}]});
        for (part, set) in
            [("server", limits), ("server", autoscaling), ("auth", auth), ("signing", rotation)]
        {
            let Some((name, value)) = set else { continue };
            if value["ca"].is_object() {
                spec["server"]["tls"] = json!({"secretName": "a"});
            }
            if name == "autoscaling" {
                spec["server"]["resources"] = json!({"requests": {"cpu": "100m"}});
            }
            spec[part][name] = value;
        }
        spec
    })
}

/// All children of a kind, without what the API server or chance adds.
async fn all<K>(world: &World) -> Value
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let found = world.api::<K>().list(&ListParams::default()).await.unwrap().items;
    let children = found.iter().filter(|child| child.meta().owner_references.is_some()).map(|child| {
        let mut value = json!(child);
        value["status"] = Value::Null;
        let meta = json!({"name": child.meta().name, "labels": child.meta().labels, "annotations": child.meta().annotations});
        value["metadata"] = meta;
        for chance in ["/spec/clusterIP", "/spec/clusterIPs", "/spec/template/metadata/annotations"] {
            if let Some(place) = value.pointer_mut(chance) {
                *place = Value::Null;
            }
        }
        let ports = value.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten() {
            // That there is one counts, not which.
            port["nodePort"] = json!(port["nodePort"].is_number());
        }
        value
    });
    children.collect()
}

pub(crate) async fn picture(world: &World) -> Value {
    let mut all = json!({
        "deployments": all::<Deployment>(world).await,
        "statefulSets": all::<StatefulSet>(world).await,
        "services": all::<Service>(world).await,
        "configMaps": all::<ConfigMap>(world).await,
        "serviceAccounts": all::<ServiceAccount>(world).await,
        "budgets": all::<PodDisruptionBudget>(world).await,
        "autoscalers": all::<HorizontalPodAutoscaler>(world).await,
        "ingresses": all::<Ingress>(world).await,
        "networkPolicies": all::<NetworkPolicy>(world).await,
    });
    // Nobody runs pods here, so configurations of before are kept.
    let config = world.server_config("main").await.name_any();
    let maps = all["configMaps"].as_array_mut().unwrap();
    maps.retain(|map| map["metadata"]["name"] == "main-client" || map["metadata"]["name"] == *config);
    assert_eq!(maps.len(), 2);
    if all["autoscalers"] != json!([]) {
        // The autoscaler's from then on: as many as there were, until it measures.
        all["deployments"][0]["spec"]["replicas"] = Value::Null;
    }
    // The key is made from chance.
    let status = world.api::<BinaryCache>().get("main").await.unwrap().status.unwrap();
    let text = all.to_string().replace(&status.public_keys[0], "KEY");
    serde_json::from_str(&world.plain(&text).await).unwrap()
}

/// Puts another spec in the place of the cache's.
async fn edit(world: &World, spec: &Value) {
    let mut cache = world.api::<BinaryCache>().get("main").await.unwrap();
    cache.spec = serde_json::from_value(spec.clone()).unwrap();
    world.api().replace("main", &kube::api::PostParams::default(), &cache).await.unwrap();
    world.reconcile_cache("main").await;
}

#[tokio::test]
async fn any_way_to_a_spec_ends_where_the_spec_alone_does() {
    let given = std::env::var_os(SEED).map(|seed| seed.into_string().unwrap().parse().unwrap());
    let seed: u64 = given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for case in 0..CASES {
        let [first, second, last] = [(); 3].map(|()| spec().new_tree(&mut runner).unwrap().current());
        let (edited, fresh) = (World::new().await, World::new().await);
        edited.cache("main", first.clone()).await;
        edited.reconcile_cache("main").await;
        edit(&edited, &second).await;
        edit(&edited, &last).await;
        fresh.cache("main", last.clone()).await;
        fresh.reconcile_cache("main").await;
        let (found, expected) = (picture(&edited).await, picture(&fresh).await);
        for (kind, wanted) in expected.as_object().unwrap() {
            assert_eq!(&found[kind], wanted, "{SEED}={seed}, case {case}: {first} then {second} then {last}");
        }
    }
}
