//! Edits that the API server refuses, and one that it takes.

use kube::api::PostParams;
use serde_json::json;

use crate::api_server;

use super::{api, cache, embedded, own_s3, with};

#[tokio::test]
async fn refused_changes() {
    let client = api_server::client().await;
    let namespace = api_server::namespace(&client).await;
    let own_key =
        json!({"signing": {"keys": [{"name": "a", "secretKeyRef": {"name": "k", "key": "secret"}}]}});
    for (index, (before, after, message)) in [
        (own_s3(), json!({"storage": {"s3": {"bucket": "other"}}}), "bucket and prefix cannot be changed"),
        (own_s3(), json!({"storage": {"s3": {"prefix": "a/"}}}), "bucket and prefix cannot be changed"),
        (embedded(), json!({"database": {"schema": "other"}}), "database.schema: cannot be changed"),
        (
            with(&embedded(), &json!({"database": {"schema": "pg"}})),
            json!({"database": {"schema": null}}),
            "database.schema: cannot be changed",
        ),
        (embedded(), json!({"cacheInfo": {"storeDir": "/gnu/store"}}), "storeDir: cannot be changed"),
        (
            own_s3(),
            json!({"storage": {"s3": null, "embedded": {}}}),
            "a cache on s3 cannot move back to embedded",
        ),
        (
            embedded(),
            json!({"storage": {"embedded": {"storageClassName": "fast"}}}),
            "the storageClassName of a volume cannot be changed",
        ),
        (
            embedded(),
            json!({"database": {"embedded": {"storageClassName": "fast"}}}),
            "the storageClassName of a volume cannot be changed",
        ),
        (
            with(&embedded(), &own_key),
            json!({"signing": {"keys": []}}),
            "only keys whose stage is Retire or Revoke can be removed",
        ),
        (
            with(&embedded(), &json!({"signing": {"keys": [{"name": "a"}, {"name": "b"}]}})),
            json!({"signing": {"keys": [{"name": "b"}]}}),
            "only keys whose stage is Retire or Revoke can be removed",
        ),
        (
            with(
                &embedded(),
                &json!({"signing": {"keys": [{"name": "a", "stage": "Revoke"}, {"name": "b"}]}}),
            ),
            json!({"signing": {"keys": [{"name": "a", "stage": "Retire"}, {"name": "b"}]}}),
            "stage: Revoke cannot be undone",
        ),
        (
            with(&embedded(), &own_key),
            json!({"signing": {"keys": [{"name": "a"}]}}),
            "where a key comes from cannot be changed",
        ),
        (
            with(&embedded(), &json!({"server": {"service": {"type": "LoadBalancer"}}})),
            json!({"server": {"service": {"loadBalancerClass": "example.org/lb"}}}),
            "loadBalancerClass: cannot be changed",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let object = cache(&format!("change-{index}"), before.clone());
        let api = api(&client, &namespace, &object);
        let stored = api
            .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap_or_else(|error| panic!("{before}: {error}"));
        let mut changed = stored.clone();
        changed.data["spec"] = with(&changed.data["spec"], &after);
        let answer =
            api.replace(stored.metadata.name.as_deref().unwrap(), &PostParams::default(), &changed).await;
        let error = answer.expect_err(message).to_string();
        assert!(error.contains(message), "wanted {message:?}, got {error}");
    }
}

#[tokio::test]
async fn a_cache_may_move_from_embedded_to_s3() {
    let client = api_server::client().await;
    let namespace = api_server::namespace(&client).await;
    let object = cache("main", embedded());
    let api = api(&client, &namespace, &object);
    let mut stored =
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    stored.data["spec"]["storage"] = own_s3()["storage"].clone();
    api.replace("main", &PostParams::default(), &stored).await.unwrap();
}
