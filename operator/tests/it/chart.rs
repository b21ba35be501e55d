//! The chart: what it renders, what values it refuses, and what the API server makes of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use niks3_operator::crd::BinaryCache;
use niks3_operator::metrics::Metrics;
use niks3_operator::self_test;
use regex::Regex;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::api_server;
use crate::world::{World, embedded};

/// All that is off where nothing is said.
const EVERYTHING: [&str; 8] = [
    "monitoring.serviceMonitor.enabled=true",
    "monitoring.serviceMonitor.labels.release=prometheus",
    "monitoring.rules.enabled=true",
    "monitoring.dashboard.enabled=true",
    "admissionPolicy.enabled=true",
    "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "extraObjects[0].apiVersion=v1,extraObjects[0].kind=ConfigMap,extraObjects[0].metadata.name=more-{{ .Release.Name }}",
    "replicas=2",
];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn helm(arguments: &[&str]) -> Output {
    let program = api_server::program("helm");
    Command::new(program).args(arguments).current_dir(root()).output().unwrap()
}

/// What the chart renders, without the CRDs, which have a test of their own.
pub(crate) fn template(sets: &[&str]) -> Result<String, String> {
    let mut arguments = vec![
        "template",
        "niks3",
        "charts/niks3-operator",
        "--namespace",
        "niks3-system",
        "--kube-version",
        "1.33.0",
        "--set",
        "crds.install=false",
    ];
    for set in sets {
        arguments.extend(["--set", *set]);
    }
    let output = helm(&arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn documents(yaml: &str) -> Vec<Value> {
    let all =
        serde_norway::Deserializer::from_str(yaml).map(|document| Value::deserialize(document).unwrap());
    all.filter(|document| !document.is_null()).collect()
}

pub(crate) fn of_kind(yaml: &str, kind: &str) -> Vec<Value> {
    documents(yaml).into_iter().filter(|document| document["kind"] == kind).collect()
}

/// In namespaced mode nothing is granted outside of the namespaces.
#[test]
fn some_namespaces_alone_can_be_looked_after() {
    let some = template(&["watchNamespaces={nix,team-a}"]).unwrap();
    let bound = of_kind(&some, "ClusterRoleBinding");
    assert!(bound.is_empty(), "{bound:?}");
    let bindings = of_kind(&some, "RoleBinding");
    let granted: Vec<_> = bindings
        .iter()
        .filter(|binding| binding["roleRef"]["kind"] == "ClusterRole")
        .map(|binding| binding["metadata"]["namespace"].as_str().unwrap())
        .collect();
    assert_eq!(granted, ["nix", "team-a"]);
    let deployment = &of_kind(&some, "Deployment")[0];
    let args = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    assert_eq!(*args, json!(["run", "--watch-namespace=nix", "--watch-namespace=team-a"]));
    assert!(template(&["watchNamespaces={Nix}"]).unwrap_err().contains("watchNamespaces"));
}

#[test]
fn templates_render_what_they_did() {
    insta::assert_snapshot!("chart-defaults", template(&[]).unwrap());
    let mut everything = template(&EVERYTHING).unwrap();
    for file in ["alerts.yaml", "dashboard.json"] {
        let path = root().join("charts/niks3-operator/files/monitoring").join(file);
        for line in std::fs::read_to_string(path).unwrap().lines().filter(|line| !line.trim().is_empty()) {
            assert!(everything.contains(line), "{file}: {line}");
        }
    }
    let rules = of_kind(&everything, "PrometheusRule").remove(0);
    assert!(rules["spec"]["groups"][0]["rules"].as_array().unwrap().len() >= 11);
    let maps = of_kind(&everything, "ConfigMap");
    let dashboard = maps.iter().find_map(|map| map["data"]["niks3.json"].as_str()).unwrap();
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() >= 14);
    // The files are shown elsewhere.
    for (from, to) in [("spec:\n  groups:", "\n---"), ("data:\n  niks3.json", "\n---")] {
        let at = everything.find(from).unwrap();
        let end = everything[at..].find(to).map_or(everything.len(), |end| end + at);
        everything.replace_range(at..end, "…");
    }
    insta::assert_snapshot!("chart-everything", everything);
}

#[test]
fn values_reach_the_operator() {
    let set = template(&["maxRollouts=3", "resyncInterval=1h"]).unwrap();
    let container = &of_kind(&set, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0];
    for (name, value) in [("NIKS3_OPERATOR_MAX_ROLLOUTS", "3"), ("NIKS3_OPERATOR_RESYNC", "1h")] {
        let said = container["env"].as_array().unwrap().contains(&json!({"name": name, "value": value}));
        assert!(said, "{name}: {container}");
    }
}

#[test]
fn values_that_cannot_be_meant_are_refused() {
    for (set, said) in [
        ("imagePullSecret=a", "imagePullSecret"),
        ("image.repository=", "/image/repository"),
        ("image.digest=latest", "/image/digest"),
        ("image.tag=a/b", "/image/tag"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("replicas=-1", "/replicas"),
        ("replicas=many", "/replicas"),
        ("concurrency=0", "/concurrency"),
        ("maxRollouts=0", "/maxRollouts"),
        ("resyncInterval=often", "/resyncInterval"),
        ("crds.keep=true", "keep"),
        ("monitoring.enabled=true", "enabled"),
        ("monitoring.rules.enabled=yes", "/monitoring/rules/enabled"),
        ("monitoring.serviceMonitor.interval=often", "/monitoring/serviceMonitor/interval"),
        ("admissionPolicy.groups=null,admissionPolicy.groups={}", "/admissionPolicy/groups"),
        ("extraObjects[0]=1", "/extraObjects/0"),
        ("resources=little", "/resources"),
    ] {
        let error = template(&[set]).expect_err(set);
        assert!(error.contains(said) && error.contains("values don't meet"), "{set}: {error}");
    }
}

#[test]
fn queries_ask_for_what_the_operator_tells() {
    let metrics = Metrics::default();
    metrics.reconciled("BinaryCache", "ok", std::time::Duration::from_millis(1));
    let meta = serde_json::from_value(json!({"name": "main", "namespace": "nix"})).unwrap();
    let folder = root().join("charts/niks3-operator/files/monitoring");
    let asked =
        ["alerts.yaml", "dashboard.json"].map(|file| std::fs::read_to_string(folder.join(file)).unwrap());
    let types = Regex::new(r#"type=\\?"([A-Za-z]+)"#).unwrap();
    let types: BTreeSet<&str> = asked
        .iter()
        .flat_map(|text| types.captures_iter(text))
        .map(|found| found.get(1).unwrap().as_str())
        .collect();
    assert!(types.len() > 2, "{types:?}");
    let all: Vec<Condition> = types
        .iter()
        .map(|about| {
            let times = "2026-01-01T00:00:00Z";
            serde_json::from_value(json!({"type": about, "status": "True", "reason": "Ready", "message": "",
                "lastTransitionTime": times}))
            .unwrap()
        })
        .collect();
    metrics.stands("BinaryCache", &meta, &all);
    let told = metrics.render().unwrap();
    for about in types {
        assert!(
            told.contains(&format!("type=\"{about}\"")),
            "the operator does not tell of {about}:\n{told}"
        );
    }
    let names = Regex::new("niks3_operator_[a-z_]+").unwrap();
    let mut count = 0;
    for name in asked.iter().flat_map(|text| names.find_iter(text)) {
        let line = Regex::new(&format!("(?m)^{}[ {{]", name.as_str())).unwrap();
        assert!(line.is_match(&told), "the operator has no metric {}:\n{told}", name.as_str());
        count += 1;
    }
    assert!(count > 10, "{count} are too few: were they found?");
    for label in ["kind=", "outcome=", "type=", "namespace=", "name=", "le="] {
        assert!(told.contains(label), "the queries use the label {label}");
    }
}

/// Makes an object of any kind, for all namespaces.
async fn make(client: &Client, object: Value) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let (group, version) = api_version.split_once('/').unwrap();
    let lower = kind.to_lowercase();
    let plural = lower.strip_suffix('y').map_or_else(|| format!("{lower}s"), |stem| format!("{stem}ies"));
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, &kind), &plural);
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let made = api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await;
    made.unwrap_or_else(|error| panic!("{kind}: {error}"));
}

#[tokio::test]
async fn only_some_may_give_admin_or_let_keys_go() {
    let world = World::new().await;
    let sets = ["admissionPolicy.enabled=true", "admissionPolicy.groups={system:masters,cache-admins}"];
    let yaml = template(&sets).unwrap();
    for kind in ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"] {
        make(&world.client(), of_kind(&yaml, kind).remove(0)).await;
    }
    let role = json!({"metadata": {"name": "caches"}, "rules": [
        {"apiGroups": ["niks3.dev"], "resources": ["*"], "verbs": ["*"]}]});
    let roles: Api<ClusterRole> = Api::all(world.client());
    roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    let binding = json!({"metadata": {"name": "caches"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "caches"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}]});
    let bindings: Api<ClusterRoleBinding> = Api::all(world.client());
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    let mut going = embedded();
    going["deletionPolicy"] = json!({"signingKeys": "Delete"});
    let mut admin = embedded();
    let account = json!({"namespace": "ci", "name": "builder"});
    admin["auth"] = json!({"kubernetes": {"rules": [
        {"name": "ci", "serviceAccounts": [account], "permissions": ["Admin"]}]}});
    let mut outside = embedded();
    outside["server"] = json!({"tls": {"secretName": "a"}});
    let mut issuer = outside.clone();
    issuer["auth"] = json!({"oidc": [{"name": "a", "issuer": "https://a", "audience": "a", "rules": [
        {"name": "a", "subjects": ["a"], "permissions": ["Admin"]}]}]});
    let mut certificate = outside;
    certificate["auth"] = json!({"clientCertificates": {"ca": {"secretKeyRef": {"name": "a"}}, "rules": [
        {"name": "a", "subjects": ["CN=a"], "permissions": ["Admin"]}]}});
    let ask = async |group: &str, name: &str, spec: &Value| {
        let client = api_server::client_as("somebody", &[group]).await;
        let object = json!({"apiVersion": "niks3.dev/v1alpha1", "kind": "BinaryCache",
            "metadata": {"name": name, "namespace": world.namespace}, "spec": spec});
        let api: Api<BinaryCache> = Api::namespaced(client, &world.namespace);
        let object = serde_json::from_value(object).unwrap();
        api.create(&PostParams { dry_run: true, ..PostParams::default() }, &object)
            .await
            .map_err(|e| e.to_string())
    };
    let begun = std::time::Instant::now();
    let mut said = String::new();
    // A policy takes a moment to be in force.
    while begun.elapsed().as_secs() < 60 {
        said = ask("tenants", "a", &going).await.err().unwrap_or_default();
        if said.contains("may be set by") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    let expected =
        "deletionPolicy.signingKeys: Delete may be set by the groups system:masters, cache-admins alone";
    assert!(said.contains(expected), "{said}");
    for gives in [&admin, &issuer, &certificate] {
        let said = ask("tenants", "b", gives).await.unwrap_err();
        assert!(
            said.contains("auth gives Admin, so only the groups system:masters, cache-admins may"),
            "{said}"
        );
        ask("cache-admins", "b", gives).await.unwrap();
    }
    ask("tenants", "c", &embedded()).await.unwrap();
    ask("cache-admins", "d", &going).await.unwrap();
    // What is so already may stay.
    world.cache("main", admin.clone()).await;
    let tenants = api_server::client_as("somebody", &["tenants"]).await;
    let api: Api<BinaryCache> = Api::namespaced(tenants, &world.namespace);
    let merge = |spec: Value| kube::api::Patch::Merge(json!({"spec": spec}));
    let how = kube::api::PatchParams::default();
    api.patch("main", &how, &merge(json!({"server": {"replicas": 3}}))).await.unwrap();
    let wider = json!({"auth": {"kubernetes": {"audience": "x"}}});
    assert!(api.patch("main", &how, &merge(wider)).await.is_err());
}

#[tokio::test]
async fn the_self_test_makes_nothing_and_fails_where_it_may_not() {
    let world = World::new().await;
    self_test::run(world.client(), &world.namespace).await.unwrap();
    assert_eq!(world.names::<BinaryCache>().await, [""; 0]);
    let stranger = api_server::client_as("stranger", &["nobody"]).await;
    let nowhere = self_test::run(stranger, "there-is-no-such-namespace").await.unwrap_err();
    assert!(nowhere.to_string().contains("does not take a BinaryCache"), "{nowhere:#}");
}
