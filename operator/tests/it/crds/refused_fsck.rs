//! Comparisons that the API server refuses.

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
