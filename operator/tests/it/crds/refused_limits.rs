//! Limits that the API server refuses, and what it says.

use serde_json::{Value, json};

use super::refused::refused;
use super::{cache, embedded, own_s3, with};

#[tokio::test]
async fn refused_limits() {
    let s3 = |patch: Value| cache("main", with(&own_s3(), &json!({"storage": {"s3": patch}})));
    let calls = |patch: Value| cache("main", with(&embedded(), &json!({"server": {"limits": patch}})));
    refused([
        (s3(json!({"requestsPerSecond": 0})), "spec.storage.s3.requestsPerSecond"),
        (s3(json!({"requestsPerSecond": 100_001})), "spec.storage.s3.requestsPerSecond"),
        (s3(json!({"maxConcurrency": 0})), "spec.storage.s3.maxConcurrency"),
        (s3(json!({"maxConcurrency": 10_001})), "spec.storage.s3.maxConcurrency"),
        (calls(json!({"callsPerSecond": -1})), "spec.server.limits.callsPerSecond"),
        (calls(json!({"callsBurst": 0})), "spec.server.limits.callsBurst"),
    ])
    .await;
}
