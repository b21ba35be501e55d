//! The CRDs: the committed files are the generated ones, and the API server takes and refuses what it should.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionSpec,
};
use kube::api::{Api, DynamicObject, GroupVersionKind, PostParams};
use kube::core::ApiResource;
use kube::{Client, CustomResourceExt as _};
use niks3_operator::crd::{self, BinaryCache, GCPolicy};
use serde_json::{Value, json};

use crate::api_server;

mod accepted;
mod changes;
mod columns;
mod refused;
mod refused_limits;
mod refused_policies;

#[test]
fn committed_crds_are_the_generated_ones() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    for definition in crd::all() {
        let (name, text) = crd::file(&definition);
        for folder in ["crds", "charts/niks3-operator/files/crds"] {
            let path = format!("{root}/{folder}/{name}");
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(committed == text, "{path} is out of date; run: niks3-operator crd --write {folder}");
        }
    }
}

#[test]
fn names_are_for_ever() {
    let names = |definition: CustomResourceDefinition| {
        let CustomResourceDefinitionSpec { group, names, versions, .. } = definition.spec;
        let short = names.short_names.unwrap_or_default().join(",");
        let categories = names.categories.unwrap_or_default().join(",");
        [group, names.plural, short, categories, versions[0].name.clone()]
    };
    assert_eq!(names(BinaryCache::crd()), ["niks3.dev", "binarycaches", "bcache", "nix", "v1alpha1"]);
    assert_eq!(names(GCPolicy::crd()), ["niks3.dev", "gcpolicies", "gcpol", "nix", "v1alpha1"]);
    assert_eq!(crd::GROUP, "niks3.dev");
}

pub(super) fn cache(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "niks3.dev/v1alpha1", "kind": "BinaryCache", "metadata": {"name": name}, "spec": spec})
}

pub(super) fn policy(spec: Value) -> Value {
    json!({"apiVersion": "niks3.dev/v1alpha1", "kind": "GCPolicy", "metadata": {"name": "nightly"}, "spec": spec})
}

/// `base` with what `patch` says, as a JSON merge patch would have it.
pub(super) fn with(base: &Value, patch: &Value) -> Value {
    let mut merged = base.clone();
    merge(&mut merged, patch);
    merged
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

pub(super) fn embedded() -> Value {
    json!({"storage": {"embedded": {}}, "database": {"embedded": {}}})
}

pub(super) fn own_s3() -> Value {
    json!({
        "storage": {"s3": {"bucket": "nix-cache", "endpoint": "http://minio.minio.svc:9000",
            "credentials": {"secretRef": {"name": "minio"}}}},
        "database": {"urlSecretRef": {"name": "nix-db"}}
    })
}

pub(super) fn retention() -> Value {
    json!({"cacheRef": {"name": "main"}, "schedule": "17 3 * * *", "retention": {"olderThan": "720h"}})
}

pub(super) fn rule(rule: Value) -> Value {
    json!({"auth": {"kubernetes": {"rules": [with(
        &json!({"name": "ci", "serviceAccounts": [{"namespace": "ci", "name": "builder"}], "permissions": ["Push"]}), &rule)]}}})
}

pub(super) fn api(client: &Client, namespace: &str, object: &Value) -> Api<DynamicObject> {
    let kind = object["kind"].as_str().unwrap();
    let plural = if kind == "BinaryCache" { "binarycaches" } else { "gcpolicies" };
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(crd::GROUP, "v1alpha1", kind), plural);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Asks the API server, which keeps nothing.
pub(super) async fn create(
    client: &Client,
    namespace: &str,
    object: &Value,
) -> Result<DynamicObject, String> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let parsed = serde_json::from_value(object.clone()).unwrap();
    api(client, namespace, object).create(&dry_run, &parsed).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn defaults_are_visible() {
    let client = api_server::client().await;
    let namespace = api_server::namespace(&client).await;
    let stored = create(&client, &namespace, &cache("main", embedded())).await.unwrap();
    insta::assert_yaml_snapshot!("defaults_of_a_cache", stored.data["spec"]);
    let stored = create(&client, &namespace, &policy(retention())).await.unwrap();
    insta::assert_yaml_snapshot!("defaults_of_a_policy", stored.data["spec"]);
}
