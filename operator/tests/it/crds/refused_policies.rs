//! Policies that the API server refuses.

use serde_json::{Value, json};

use super::refused::refused;
use super::{policy, retention, with};

#[tokio::test]
async fn refused_comparisons() {
    let p = |patch: Value| policy(with(&retention(), &patch));
    refused([
        (p(json!({"fsck": {}})), "spec.fsck.schedule: Required value"),
        (p(json!({"fsck": {"schedule": ""}})), "spec.fsck.schedule"),
        (
            p(json!({"fsck": {"schedule": "CRON_TZ=UTC 17 3 * * *"}})),
            "fsck.schedule: has no time zone; use timeZone",
        ),
        (p(json!({"fsck": {"schedule": "@weekly", "mode": "Mend"}})), "spec.fsck.mode: Unsupported value"),
        (p(json!({"fsck": {"schedule": "@weekly", "deep": "yes"}})), "spec.fsck.deep"),
    ])
    .await;
}

#[tokio::test]
async fn refused_policies() {
    let selected =
        |expression: Value| json!({"cacheRef": null, "cacheSelector": {"matchExpressions": [expression]}});
    let p = |patch: Value| policy(with(&retention(), &patch));
    let mut long = policy(retention());
    long["metadata"]["name"] = "a".repeat(64).into();
    refused([
        (p(json!({"cacheRef": null})), "set exactly one of cacheRef and cacheSelector"),
        (p(json!({"cacheSelector": {}})), "set exactly one of cacheRef and cacheSelector"),
        (p(selected(json!({"key": "a", "operator": "Like"}))), "cacheSelector: an operator is In or NotIn"),
        (p(selected(json!({"key": "a", "operator": "In"}))), "cacheSelector: an operator is In or NotIn"),
        (p(selected(json!({"key": "a", "operator": "NotIn", "values": []}))), "cacheSelector: an operator"),
        (p(json!({"schedule": "TZ=Europe/Berlin 17 3 * * *"})), "schedule: has no time zone; use timeZone"),
        (
            p(json!({"retention": {"olderThan": null}})),
            "retention: set olderThan, maxSize, or keepLast or maxAge of a pin rule",
        ),
        (p(json!({"retention": {"olderThan": "59m"}})), "retention.olderThan: at least 1h"),
        (p(json!({"retention": {"olderThan": "30d"}})), "spec.retention.olderThan"),
        (p(json!({"retention": {"maxSize": "0"}})), "retention.maxSize: more than 0"),
        (p(json!({"retention": {"maxSize": "0Gi"}})), "retention.maxSize: more than 0"),
        (long, "metadata.name: at most 63 characters"),
        (
            p(json!({"retention": {"failedUploadsOlderThan": "30m"}})),
            "retention.failedUploadsOlderThan: at least 1h",
        ),
        (p(json!({"retention": {"deletionGrace": "soon"}})), "spec.retention.deletionGrace"),
        (p(json!({"failedJobsHistoryLimit": 101})), "spec.failedJobsHistoryLimit"),
        (p(json!({"concurrencyPolicy": "Allow"})), "spec.concurrencyPolicy: Unsupported value"),
        (p(json!({"startingDeadlineSeconds": 9})), "spec.startingDeadlineSeconds"),
        (p(json!({"job": {"activeDeadlineSeconds": 59}})), "spec.job.activeDeadlineSeconds"),
        (p(json!({"job": {"backoffLimit": -1}})), "spec.job.backoffLimit"),
        (p(json!({"job": {"ttlSecondsAfterFinished": 0}})), "spec.job.ttlSecondsAfterFinished"),
    ])
    .await;
}
