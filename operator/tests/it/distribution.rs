//! What the chart grants, and what Artifact Hub is told of it.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use niks3_operator::crd;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::chart::{of_kind, root, template};
use crate::world::World;

fn words(value: &Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Who reads the operator's token knows no Secret whose name it does not know, and can grant itself nothing.
#[test]
fn no_secret_is_listed_no_right_is_a_wildcard_and_none_makes_more_rights() {
    for sets in [&[][..], &["watchNamespaces={nix,team-a}"]] {
        let yaml = template(sets).unwrap();
        let roles = ["ClusterRole", "Role"].map(|kind| of_kind(&yaml, kind)).concat();
        // Those that are aggregated to `view` and `edit` are other people's.
        let own = roles.iter().filter(|role| {
            let labels = role["metadata"]["labels"].as_object().unwrap();
            !labels.keys().any(|label| label.starts_with("rbac.authorization.k8s.io/"))
        });
        let rules: Vec<&Value> = own.flat_map(|role| role["rules"].as_array().unwrap()).collect();
        assert!(rules.len() > 15, "{} are too few: were they found?", rules.len());
        for rule in rules {
            let (resources, verbs) = (words(&rule["resources"]), words(&rule["verbs"]));
            for all in [&words(&rule["apiGroups"]), &resources, &verbs] {
                assert!(!all.contains("*"), "{rule}");
            }
            for strong in ["escalate", "bind", "impersonate", "update", "deletecollection"] {
                assert!(!verbs.contains(strong) || resources.contains("leases"), "{rule}");
            }
            for hidden in
                ["pods/exec", "pods/attach", "serviceaccounts/token", "roles", "rolebindings", "nodes"]
            {
                assert!(!resources.contains(hidden), "{rule}");
            }
            if resources.contains("secrets") {
                assert_eq!(verbs, ["create", "get", "patch"].into(), "{rule}");
            }
            if resources.contains("pods") {
                assert_eq!(verbs, ["list"].into(), "{rule}");
            }
        }
    }
}

/// A part of the chart's annotations that is YAML itself.
fn told(annotation: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("charts/niks3-operator/Chart.yaml")).unwrap();
    let chart = serde_norway::Deserializer::from_str(&text).next().unwrap();
    let chart = Value::deserialize(chart).unwrap();
    let part = chart["annotations"][annotation].as_str().unwrap();
    let part = serde_norway::Deserializer::from_str(part).next().unwrap();
    Value::deserialize(part).unwrap().as_array().unwrap().clone()
}

#[tokio::test]
async fn what_artifact_hub_is_told_is_so() {
    let world = World::new().await;
    let mut kinds = BTreeSet::new();
    for (said, definition) in told("artifacthub.io/crds").iter().zip(crd::all()) {
        assert_eq!(said["kind"], definition.spec.names.kind);
        assert_eq!(said["name"].as_str(), definition.metadata.name.as_deref());
        assert_eq!(said["version"], definition.spec.versions[0].name);
        kinds.insert(definition.spec.names.kind);
    }
    assert_eq!(kinds.len(), crd::all().len());
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    for mut example in told("artifacthub.io/crdsExamples") {
        example["metadata"]["namespace"] = world.namespace.clone().into();
        let kind = example["kind"].as_str().unwrap().to_owned();
        let plural = if kind == "GCPolicy" { "gcpolicies" } else { "binarycaches" };
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(crd::GROUP, "v1alpha1", &kind), plural);
        let api: Api<DynamicObject> = Api::namespaced_with(world.client(), &world.namespace, &resource);
        api.create(&dry_run, &serde_json::from_value(example).unwrap()).await.unwrap();
        kinds.remove(&kind);
    }
    assert_eq!(kinds, BTreeSet::new(), "each kind has an example");
}

/// Who mirrors images, or scans them, is told of all that the chart's values name.
#[test]
fn the_images_that_artifact_hub_is_told_are_those_of_the_values() {
    let read = |file: &str| {
        let text = std::fs::read_to_string(root().join("charts/niks3-operator").join(file)).unwrap();
        Value::deserialize(serde_norway::Deserializer::from_str(&text).next().unwrap()).unwrap()
    };
    let (values, chart) = (read("values.yaml"), read("Chart.yaml"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let own = format!("{}:{}", text(&values["image"]["repository"]), text(&chart["appVersion"]));
    let told = told("artifacthub.io/images");
    let told: Vec<&str> = told.iter().map(|image| image["image"].as_str().unwrap()).collect();
    assert_eq!(told, [own, text(&values["s3Image"]), text(&values["postgresImage"])]);
}

/// The demo's namespace of the operator enforces it, and so does that of install.yaml.
#[tokio::test]
async fn what_the_chart_runs_is_taken_under_the_restricted_profile() {
    let world = World::new().await;
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces: Api<Namespace> = Api::all(world.client());
    namespaces.patch(&world.namespace, &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let pods = world.api::<Pod>();
    let pod =
        |spec: &Value| serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap();
    let bare = json!({"containers": [{"name": "a", "image": "a"}]});
    let refused = pods.create(&dry_run, &pod(&bare)).await.unwrap_err().to_string();
    assert!(refused.contains("PodSecurity"), "{refused}");
    let yaml = template(&[]).unwrap();
    let workloads = ["Deployment", "Job"].map(|kind| of_kind(&yaml, kind)).concat();
    assert_eq!(workloads.len(), 2, "the operator and `helm test`");
    for workload in workloads {
        let spec = &workload["spec"]["template"]["spec"];
        pods.create(&dry_run, &pod(spec))
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", workload["kind"]));
    }
}
