//! What the samples that users copy become.

use serde_json::{Value, json};

use crate::cache::build::build;

/// `server/tests/it/web_identity.rs` runs a server with what stands there.
#[test]
fn the_pod_of_web_identity() {
    let sample = include_str!("../../../../../manifests/samples/web-identity.yaml");
    let sample: Value = serde_norway::from_str(sample).unwrap();
    let resources = build(&super::valid(&sample["spec"], &[]));
    let pod = resources.deployments[0].spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    let config = &resources.config_maps[0].data.as_ref().unwrap()["config.json"];
    let config: Value = serde_json::from_str(config).unwrap();
    let server = &pod.containers[0];
    insta::assert_yaml_snapshot!(json!({
        "s3": config["s3"], "env": server.env, "mounts": server.volume_mounts, "volumes": pod.volumes,
    }));
}
