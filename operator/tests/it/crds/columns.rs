//! What `kubectl get` shows of both kinds, as the API server renders it.

use niks3_operator::crd::{BinaryCache, GCPolicy};
use serde_json::{Value, json};

use crate::world::{World, embedded};

/// The only object of a kind as a line of columns, those of `-o wide` too. How long ago something was is not shown.
async fn columns(world: &World, plural: &str) -> Value {
    let path = format!("/apis/niks3.dev/v1alpha1/namespaces/{}/{plural}", world.namespace);
    let request = http::Request::get(path).header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let table: Value = world.client().request(request.body(Vec::new()).unwrap()).await.unwrap();
    let cells = table["rows"][0]["cells"].as_array().unwrap().iter();
    let shown = table["columnDefinitions"].as_array().unwrap().iter().zip(cells).map(|(column, cell)| {
        let wide = if column["priority"] == 0 { "" } else { " (wide)" };
        let cell = if column["type"] == "date" {
            let since = cell.as_str().unwrap();
            assert!(since.starts_with(|c: char| c.is_ascii_digit()), "{column}: {since}");
            json!("SINCE")
        } else {
            cell.clone()
        };
        (format!("{}{wide}", column["name"].as_str().unwrap()), cell)
    });
    shown.map(|(name, cell)| json!([name, cell])).collect()
}

fn ready() -> Value {
    json!([{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "Ready", "status": "False", "reason": "SecretNotFound", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}])
}

#[tokio::test]
async fn what_a_list_shows() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    let status = json!({"conditions": ready(), "url": "https://cache.example.org", "objects": 1234, "bytes": 5_000_000,
        "size": "4.8 MiB", "readyReplicas": 2, "replicas": 3, "serverVersion": "1.2.3", "publicKeys": ["a-1:AAAA", "a-2:BBBB"],
        "lastGC": {"policy": "nightly", "finishedAt": "2026-01-01T00:00:00Z", "result": "Succeeded"}});
    world.patch_status::<BinaryCache>("main", status).await;
    insta::assert_yaml_snapshot!("columns_of_a_cache", columns(&world, "binarycaches").await);
    world.policy("nightly", super::retention()).await;
    let status =
        json!({"conditions": ready(), "matchedCaches": 1, "lastSuccessfulTime": "2026-01-01T00:00:00Z"});
    world.patch_status::<GCPolicy>("nightly", status).await;
    insta::assert_yaml_snapshot!("columns_of_a_policy", columns(&world, "gcpolicies").await);
}
