//! The manifests that users copy: the API server takes them, and the keys in them are keys.

use std::path::Path;

use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use niks3_protocol::nix::SecretKey;
use serde::Deserialize as _;
use serde_json::Value;

use crate::world::World;

fn documents() -> Vec<(String, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    let samples = std::fs::read_dir(root.join("samples")).unwrap().map(|entry| entry.unwrap().path());
    samples
        .chain([root.join("quickstart.yaml")])
        .flat_map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.display().to_string();
            serde_norway::Deserializer::from_str(&text)
                .map(|document| {
                    (name.clone(), Value::deserialize(document).unwrap_or_else(|e| panic!("{name}: {e}")))
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

#[tokio::test]
async fn the_api_server_takes_every_sample() {
    let world = World::new().await;
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let mut taken = 0;
    for (file, mut document) in documents() {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (api_version, kind) = (text(&document["apiVersion"]), text(&document["kind"]));
        if document["metadata"]["namespace"].is_null() {
            continue;
        }
        document["metadata"]["namespace"] = world.namespace.clone().into();
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let plural =
            if kind == "GCPolicy" { "gcpolicies".to_owned() } else { format!("{}s", kind.to_lowercase()) };
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, &kind), &plural);
        let api: Api<DynamicObject> = Api::namespaced_with(world.client(), &world.namespace, &resource);
        let object = serde_json::from_value(document).unwrap();
        api.create(&dry_run, &object).await.unwrap_or_else(|error| panic!("{file}: {kind}: {error}"));
        taken += 1;
    }
    assert!(taken > 8, "{taken} is too few: were the samples found?");
}

#[test]
fn the_signing_key_of_the_sample_is_one() {
    let keys: Vec<String> = documents()
        .iter()
        .filter_map(|(_, document)| Some(document["stringData"]["secret"].as_str()?.to_owned()))
        .collect();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].parse::<SecretKey>().unwrap().name(), "cache.example.org-1");
}
