//! The manifests that users copy: the API server takes them, and the keys in them are keys.

use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use niks3_protocol::nix::SecretKey;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::world::World;

fn documents() -> Vec<(String, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    let samples = std::fs::read_dir(root.join("samples")).unwrap().map(|entry| entry.unwrap().path());
    samples
        .filter(|path| path.is_file())
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

/// The pods that Tekton, ARC and GitLab's runner would make of their samples, as far as the samples say.
fn pods_of_ci() -> Vec<(&'static str, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples/ci");
    let read = |file: &str| {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let document = serde_norway::Deserializer::from_str(&text).next().unwrap();
        Value::deserialize(document).unwrap()
    };
    let arc = read("arc-values.yaml")["template"]["spec"].clone();
    let task = read("tekton.yaml")["spec"].clone();
    let mut step = task["steps"][0].clone();
    for field in ["script", "workingDir"] {
        step.as_object_mut().unwrap().remove(field).unwrap();
    }
    let tekton = json!({"serviceAccountName": "builder", "containers": [step], "volumes": task["volumes"]});
    let config = read("gitlab-runner-values.yaml")["runners"]["config"].as_str().unwrap().to_owned();
    let patch = config.split("'''").nth(1).unwrap();
    let mut gitlab: Value = serde_norway::from_str(patch).unwrap();
    gitlab["serviceAccountName"] = json!("builder");
    let build = &mut gitlab["containers"][0];
    build["image"] = json!("debian");
    // There as `environment`, for all jobs.
    build["env"] = config
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\",")?.split_once('='))
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    vec![("arc", arc), ("tekton", tekton), ("gitlab", gitlab)]
}

#[tokio::test]
async fn the_pods_of_ci_are_pods_and_know_the_cache() {
    let world = World::new().await;
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    for (name, spec) in pods_of_ci() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let made = world.api::<Pod>().create(&dry_run, &pod).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        let made = serde_json::to_value(made.spec.unwrap()).unwrap();
        let container = &made["containers"][0];
        let env = |wanted: &str| {
            let mut all = container["env"].as_array().unwrap().iter();
            all.find(|env| env["name"] == wanted).unwrap_or_else(|| panic!("{name}: {wanted}")).clone()
        };
        env("NIKS3_SERVER_URL");
        let mounts = container["volumeMounts"].as_array().unwrap();
        for (variable, volume, file) in [
            ("NIKS3_AUTH_TOKEN_FILE", "niks3-token", "/token"),
            ("NIX_USER_CONF_FILES", "niks3", "/nix.conf"),
        ] {
            let mount = mounts.iter().find(|mount| mount["name"] == volume).unwrap();
            let path = format!("{}{file}", mount["mountPath"].as_str().unwrap());
            assert_eq!(env(variable)["value"], path, "{name}: {variable}");
        }
        let volumes = made["volumes"].as_array().unwrap();
        let volume = |wanted: &str| volumes.iter().find(|volume| volume["name"] == wanted).unwrap();
        let token = &volume("niks3-token")["projected"]["sources"][0]["serviceAccountToken"];
        assert_eq!(token["audience"], niks3_operator::labels::default_audience("main", "nix"), "{name}");
        let map = niks3_operator::labels::published("main", "nix");
        assert_eq!(volume("niks3")["configMap"]["name"], map, "{name}");
    }
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
