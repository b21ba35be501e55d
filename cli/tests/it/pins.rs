//! `niks3 pins`

use crate::support::Cache;

#[tokio::test(flavor = "multi_thread")]
async fn pins_are_made_moved_listed_and_deleted() {
    let cache = Cache::start().await;
    let one = cache.store.add("one", &[("x", b"1")]);
    let two = cache.store.add("two", &[("x", b"2")]);
    let run = async |arguments: &[&str]| cache.niks3(arguments).run().await;
    assert_eq!(run(&["pins", "list", "--names-only"]).await.data(), "");
    assert_eq!(run(&["pins", "list", "--json"]).await.data(), "[]\n");
    insta::assert_snapshot!(run(&["push", "--pin", "main", one.as_str()]).await.succeeded(), @r"
    1 path: 0 cached, 1 to upload (SIZE)
    Pushed 1 path to SERVER: SIZE sent in TIME
    Pinned /nix/store/HASH-one as main
    ");
    run(&["push", two.as_str()]).await.succeeded();
    insta::assert_snapshot!(run(&["pins", "create", "v1.0", two.as_str()]).await.succeeded(), @"Pinned /nix/store/HASH-two as v1.0");
    assert_eq!(run(&["pins", "list", "--names-only"]).await.data(), "main\nv1.0\n");

    run(&["push", "--pin", "main", two.as_str()]).await.succeeded();
    let list = run(&["pins", "list"]).await.data();
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines[0], "NAME  UPDATED               STORE PATH");
    assert!(lines[1].starts_with("main  20") && lines[1].ends_with("Z  /nix/store/HASH-two"), "{list}");
    assert_eq!(lines.len(), 3);
    let json: serde_json::Value =
        serde_json::from_str(&run(&["pins", "list", "--json"]).await.data()).unwrap();
    assert_eq!(json[1]["name"], "v1.0");
    assert!(json[0]["created_at"].as_str() < json[0]["updated_at"].as_str(), "{json}");

    insta::assert_snapshot!(run(&["pins", "delete", "v1.0"]).await.succeeded(), @"Deleted pin v1.0");
    assert_eq!(run(&["pins", "list", "--names-only"]).await.data(), "main\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_that_cannot_be() {
    let cache = Cache::start().await;
    let path = cache.store.add("tree", &[("x", b"x")]);
    let run = async |arguments: &[&str], code| cache.niks3(arguments).run().await.failed(code);
    insta::assert_snapshot!(run(&["pins", "create", "main", path.as_str()], 1).await, @"error: /nix/store/HASH-tree was not pushed as a closure of its own; push it first (SERVER answered 404 Not Found)");
    insta::assert_snapshot!(run(&["pins", "delete", "main"], 1).await, @"error: there is no pin main (SERVER answered 404 Not Found)");
    insta::assert_snapshot!(run(&["pins", "create", "a/b", path.as_str()], 2).await, @r#"error: "a/b" is not a pin name: 1 to 256 of A-Z a-z 0-9 . _ -"#);
    insta::assert_snapshot!(run(&["pins", "delete", ""], 2).await, @r#"error: "" is not a pin name: 1 to 256 of A-Z a-z 0-9 . _ -"#);
}
