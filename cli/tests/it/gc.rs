//! `niks3 gc`

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::support::Cache;
use crate::support::program::Niks3;
use crate::support::script::Script;

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_keeps_goes_and_what_is_pinned_stays() {
    let cache = Cache::start().await;
    let kept = cache.store.add("kept", &[("x", b"kept")]);
    let lost = cache.store.add("lost", &[("x", b"lost")]);
    cache.niks3(&["push", "--pin", "main", kept.as_str()]).run().await.succeeded();
    cache.niks3(&["push", lost.as_str()]).run().await.succeeded();

    let young = cache.niks3(&["gc", "--older-than=1h", "--force"]).run().await.succeeded();
    insta::assert_snapshot!(young, @"Collected: 0 uploads and 0 closures expired, 0 objects marked, 0 deleted (SIZE freed), 0 failed");

    let file = cache.folder.path().join("result");
    let arguments = ["gc", "--older-than=0s", "--force", "--json", "--result-file", file.to_str().unwrap()];
    let outcome = cache.niks3(&arguments).run().await;
    let (printed, written) = (outcome.data(), std::fs::read_to_string(file).unwrap());
    assert_eq!(printed, written);
    assert_eq!(written.lines().count(), 1, "{written}");
    let result: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(result["state"], "succeeded");
    assert_eq!(result["stats"]["old_closures_deleted"], 1);
    assert_eq!(result["stats"]["objects_deleted_after_grace_period"], 3);
    assert!(result["stats"]["bytes_freed"].as_i64().unwrap() > 100, "{result}");

    assert_eq!(cache.get(&format!("{}.narinfo", lost.hash())).await.status(), 404);
    let copy = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &kept).unwrap();
    cache.store.assert_equal(&kept, &copy);
    // What was collected is pushed anew.
    let again = cache.niks3(&["push", lost.as_str()]).run().await.succeeded();
    assert!(again.starts_with("1 path: 0 cached, 1 to upload"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn grace_keeps_objects_for_a_while() {
    let cache = Cache::start().await;
    let path = cache.store.add("tree", &[("x", b"x")]);
    cache.niks3(&["push", path.as_str()]).run().await.succeeded();
    let arguments = ["gc", "--older-than=0s", "--deletion-grace=1h"];
    let said = cache.niks3(&arguments).run().await.succeeded();
    assert!(said.contains("3 objects marked, 0 deleted"), "{said}");
    assert_eq!(cache.get(&format!("{}.narinfo", path.hash())).await.status(), 200);
    // A wish that is too short for what is under way is raised, and that is said.
    let arguments = ["gc", "--older-than=1h", "--failed-uploads-older-than=1s"];
    let said = cache.niks3(&arguments).run().await.succeeded();
    assert!(said.starts_with("note: "), "{said}");
}

/// A run as a server tells of it.
fn run(state: &str, older_than: &str, error: &str) -> String {
    format!(
        r#"{{"state":"{state}","phase":"vacuum_tables","params":{{"older_than":"{older_than}",
        "failed_uploads_older_than":"6h","force":false}},"stats":{{"failed_uploads_deleted":0,"old_closures_deleted":0,
        "objects_marked_for_deletion":0,"objects_deleted_after_grace_period":0,"objects_failed_to_delete":2}},
        {error}"started_at":"2026-07-01T10:00:00Z","updated_at":"2026-07-01T10:00:00Z"}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_fails_says_why_and_leaves_its_result() {
    let failed = |_: &_| (200, "", run("failed", "1h", r#""error":"the bucket is away","#));
    let server = Script::start(failed).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("result");
    let arguments = ["gc", "--server-url", &server.url, "--result-file", file.to_str().unwrap()];
    insta::assert_snapshot!(Niks3::new(&arguments).run().await.failed(1), @r"
    Collected: 0 uploads and 0 closures expired, 0 objects marked, 0 deleted (SIZE freed), 2 failed
    error: the collection failed: the bucket is away
    ");
    assert!(std::fs::read_to_string(&file).unwrap().contains(r#""state":"failed""#));

    let nowhere = ["gc", "--server-url", &server.url, "--result-file", "/nowhere/result"];
    insta::assert_snapshot!(Niks3::new(&nowhere).run().await.failed(1), @"error: the result file /nowhere/result cannot be written: No such file or directory (os error 2)");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_collection_is_waited_for() {
    let asked = AtomicU32::new(0);
    let server = Script::start(move |request| {
        let active = run("running", "720h", "");
        match (request.line.starts_with("DELETE"), asked.fetch_add(1, Ordering::Relaxed)) {
            (true, 0) => (409, "", format!(r#"{{"error":"another run is active","active_task":{active}}}"#)),
            (true, _) => (202, "", run("succeeded", "1h", "")),
            (false, 1) => (200, "", active),
            (false, _) => (200, "", run("succeeded", "720h", "")),
        }
    })
    .await;
    let said = Niks3::new(&["gc", "--older-than=1h", "--server-url", &server.url]).run().await.succeeded();
    insta::assert_snapshot!(said, @r"
    Another collection is running; waiting for it
    Collected: 0 uploads and 0 closures expired, 0 objects marked, 0 deleted (SIZE freed), 2 failed
    ");
    let start = "DELETE /api/closures?older-than=1h&failed-uploads-older-than=6h";
    assert_eq!(server.lines(), [start, "GET /api/gc/status", "GET /api/gc/status", start]);
}
