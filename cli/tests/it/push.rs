//! A push that goes well, and what Nix makes of it.

use crate::support::Cache;
use crate::support::nix::noise;

#[tokio::test(flavor = "multi_thread")]
async fn nix_reads_back_what_was_pushed() {
    let cache = Cache::start().await;
    let root = cache.store.closure();
    insta::assert_snapshot!(cache.niks3(&["push", root.as_str()]).run().await.succeeded(), @r"
    3 paths: 0 cached, 3 to upload (SIZE)
    Pushed 3 paths to SERVER: SIZE sent in TIME
    ");

    let key = cache.public_key.to_string();
    let copy = cache.store.copy_from(&cache.url, &key, &root).unwrap();
    let all = cache.store.requisites(&root);
    assert_eq!(all.len(), 3);
    for path in &all {
        cache.store.assert_equal(path, &copy);
    }
    // The signature is what makes Nix take it.
    let other = "other-1:0dIv7lRr7KujeiTmD3Mwvhf9GYw6GO+mmdDfWM5mZNU=";
    let refused = cache.store.copy_from(&cache.url, other, &root).unwrap_err();
    assert!(refused.contains("lacks a valid signature"), "{refused}");

    let listing = cache.get(&root.listing_key()).await.text().await.unwrap();
    assert!(listing.contains(r#""broken":{"type":"symlink","target":"../nowhere"}"#), "{listing}");
    let deriver = cache.store.ask("nix-store", &["--query", "--deriver", root.as_str()]);
    let log = cache.get(&format!("log/{}", deriver.rsplit('/').next().unwrap())).await.text().await.unwrap();
    assert_eq!(log, "the log of the build\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_push_is_one_call_and_sends_nothing() {
    let cache = Cache::start().await;
    let root = cache.store.closure();
    cache.niks3(&["push", root.as_str()]).run().await.succeeded();
    insta::assert_yaml_snapshot!(cache.requests().await, @r#"
    GET /api/cache-config 200: 1
    POST /api/closures/refresh 200: 1
    POST /api/multipart/complete 204: 1
    POST /api/pending_closures 200: 1
    "POST /api/pending_closures/{id}/complete 204": 1
    "POST /api/pending_closures/{id}/sign 200": 1
    "#);
    let (connections, bytes) = (cache.s3.connections(), cache.s3.bytes());
    assert!(bytes > 12_000_000, "{bytes} bytes");

    let said = cache.niks3(&["push", root.as_str()]).run().await.succeeded();
    insta::assert_snapshot!(said, @"All of it is in SERVER already; nothing was uploaded (TIME)");
    assert_eq!((cache.s3.connections(), cache.s3.bytes()), (connections, bytes));
    assert_eq!(cache.requests().await["POST /api/closures/refresh 200"], 2);
    assert_eq!(cache.requests().await.values().sum::<u64>(), 6 + 1);
    let quiet = cache.niks3(&["push", "--quiet", root.as_str()]).run().await.succeeded();
    assert_eq!(quiet, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_missing_is_sent() {
    let cache = Cache::start().await;
    let big = noise(3_000_000);
    let base = cache.store.add("base", &[("big", &big)]);
    cache.niks3(&["push", base.as_str()]).run().await.succeeded();
    let sent = cache.s3.bytes();
    let user = cache.store.build("user", &format!("echo {base} > $out"), &[&base]);
    let said = cache.niks3(&["push", user.as_str()]).run().await.succeeded();
    assert!(said.contains("2 paths: 1 cached, 1 to upload"), "{said}");
    assert!(cache.s3.bytes() - sent < 20_000, "{} bytes more were sent", cache.s3.bytes() - sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_roots_are_one_upload_and_equal_content_goes_once() {
    let cache = Cache::start().await;
    let content = noise(2_000_000);
    let one = cache.store.add("one", &[("x", &content)]);
    let two = cache.store.add("two", &[("x", &content)]);
    let said = cache.niks3(&["push", one.as_str(), two.as_str(), one.as_str()]).run().await.succeeded();
    assert!(said.starts_with("2 paths: 0 cached, 2 to upload (SIZE)"), "{said}");
    assert!(cache.s3.bytes() < 2_100_000, "{} bytes were sent", cache.s3.bytes());
    assert_eq!(cache.requests().await["POST /api/pending_closures 200"], 1);
    assert_eq!(cache.count("select count(*) from closures").await, 2);
    let key = cache.public_key.to_string();
    for path in [&one, &two] {
        let copy = cache.store.copy_from(&cache.url, &key, path).unwrap();
        cache.store.assert_equal(path, &copy);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_files_within_mean_their_store_path() {
    let cache = Cache::start().await;
    let path = cache.store.add("tree", &[("bin/run", b"#!/bin/sh\n")]);
    let link = cache.folder.path().join("result");
    std::os::unix::fs::symlink(path.as_str(), &link).unwrap();
    let second = cache.folder.path().join("result-2");
    std::os::unix::fs::symlink("result", &second).unwrap();
    let within = format!("{path}/bin/run");
    let arguments = ["push", link.to_str().unwrap(), second.to_str().unwrap(), &within];
    cache.niks3(&arguments).run().await.succeeded();
    let root: String = sqlx::query_scalar("select key from closures").fetch_one(&cache.app.db).await.unwrap();
    assert_eq!(root, path.narinfo_key());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bucket_lost_is_sent_again_when_asked() {
    let cache = Cache::start().await;
    let path = cache.store.add("tree", &[("x", b"x")]);
    cache.niks3(&["push", path.as_str()]).run().await.succeeded();
    let nar = sqlx::query_scalar("select key from objects where key like 'nar/%'");
    let nar: String = nar.fetch_one(&cache.app.db).await.unwrap();
    cache.app.bucket.delete(std::slice::from_ref(&nar)).await;
    assert!(cache.app.bucket.head(&nar).await.unwrap().is_none());

    let said = cache.niks3(&["push", "--verify-s3-integrity", path.as_str()]).run().await.succeeded();
    assert!(said.starts_with("1 path: 0 cached, 1 to upload"), "{said}");
    assert!(cache.app.bucket.head(&nar).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_of_the_same_closure_at_once_all_succeed() {
    let cache = Cache::start().await;
    let root = cache.store.closure();
    let runs = (0..4).map(|_| cache.niks3(&["push", "--pin", "main", root.as_str()]).run());
    for outcome in futures::future::join_all(runs).await {
        outcome.succeeded();
    }
    let copy = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &root).unwrap();
    cache.store.assert_equal(&root, &copy);
}
