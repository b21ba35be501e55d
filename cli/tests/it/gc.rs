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
    assert!(printed.starts_with(&written[..100]), "{printed}");
    assert_eq!(written.lines().count(), 1, "{written}");
    let result: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(result["state"], "succeeded");
    assert_eq!(result["stats"]["old_closures_deleted"], 1);
    assert_eq!(result["stats"]["objects_deleted_after_grace_period"], 3);
    assert!(result["stats"]["bytes_freed"].as_i64().unwrap() > 100, "{result}");

    assert_eq!(cache.get(&lost.narinfo_key()).await.status(), 404);
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
    assert_eq!(cache.get(&path.narinfo_key()).await.status(), 200);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_is_a_table_and_a_policy_goes_further_than_age() {
    let cache = Cache::start().await;
    let kept = cache.store.add("kept", &[("x", b"kept")]);
    let lost = cache.store.add("lost", &[("x", &[7; 5000])]);
    cache.niks3(&["push", "--pin", "ci-1", lost.as_str()]).run().await.succeeded();
    cache.niks3(&["push", "--pin", "ci-2", kept.as_str()]).run().await.succeeded();
    let rule = "--pin-rule=prefix=ci-,keep-last=1";
    let table = cache.niks3(&["gc", rule, "--force", "--dry-run"]).run().await.data();
    for part in ["        3 objects", "1 roots stay: pin", "1 closures go: pin_rules", "1 pins go", "-lost"] {
        assert!(table.contains(part), "{part:?} is not in\n{table}");
    }
    assert_eq!(cache.count("select count(*) from closures").await, 2);

    // The guard stops a run; the plan is there to look at.
    let stopped = cache.niks3(&["gc", rule, "--force", "--max-delete-percent=20"]).run().await.failed(2);
    assert!(stopped.contains("3 of 6 live objects (50 %"), "{stopped}");
    let list = cache.niks3(&["gc", "list"]).run().await.data();
    assert!(list.contains("failed") && list.contains("dry run: ") && list.lines().count() == 3, "{list}");
    let show = cache.niks3(&["gc", "show", "2"]).run().await.data();
    assert!(show.contains("PINS THAT GO") && show.contains("note: a run would stop"), "{show}");

    cache.niks3(&["gc", rule, "--force", "--max-delete-percent=50"]).run().await.succeeded();
    assert_eq!(cache.get(&lost.narinfo_key()).await.status(), 404);
    assert_eq!(cache.get(&kept.narinfo_key()).await.status(), 200);
    let nothing = cache.niks3(&["gc", "abort"]).run().await.failed(1);
    assert!(nothing.contains("no collection is running"), "{nothing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_does_not_know_is_not_passed_over() {
    let old = Script::start(|request| match request.line.as_str() {
        line if line.starts_with("GET /api/cache-config") => {
            (200, "", r#"{"substituter_url":"http://x","public_keys":[]}"#.to_owned())
        }
        _ => (404, "", "404 page not found\n".to_owned()),
    })
    .await;
    let said = Niks3::new(&["gc", "--max-size=1Gi", "--server-url", &old.url]).run().await.failed(1);
    assert!(said.contains("older version, which cannot keep anything but by age and pin"), "{said}");
    for (bad, sentence) in [
        ("--max-size=1X", "is not a size"),
        ("--pin-rule=ci-", "is not a pin rule"),
        ("--max-delete-percent=0", "1..=100"),
        ("--min-age=1h", "--max-size"),
    ] {
        let outcome = Niks3::new(&["gc", bad, "--server-url", &old.url]).run().await;
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains(sentence), "{outcome:?}");
    }
}

/// Two collections may end between two looks.
#[tokio::test(flavor = "multi_thread")]
async fn the_result_is_that_of_its_own_run() {
    let of = |id: u32, state: &str, error: &str| {
        run(state, "1h", error).replacen('{', &format!(r#"{{"id":{id},"#), 1)
    };
    let server = Script::start(move |request| match request.line.as_str() {
        "GET /api/gc/runs/5" => (200, "", of(5, "succeeded", "")),
        line if line.starts_with("DELETE") => (202, "", of(5, "running", "")),
        _ => (200, "", of(6, "failed", r#""error":"of another run","#)),
    })
    .await;
    Niks3::new(&["gc", "--older-than=1h", "--server-url", &server.url]).run().await.succeeded();
    assert_eq!(server.lines()[1..], ["GET /api/gc/runs/5"]);
}
