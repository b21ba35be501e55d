//! Addresses bound to bytes, where something goes wrong with them.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use niks3_protocol::nix::StorePath;

use crate::support::Cache;
use crate::support::nix::noise;
use crate::support::recorder::{Recorder, Treatment};

const PASS: Treatment = Treatment::Pass(Duration::ZERO);

/// What an older server says to calls that it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_knows_no_bound_addresses_stops_no_push() {
    let cache = Cache::with(|parts, _| parts.settings.bound = true).await;
    for status in [404, 405] {
        let rule = move |head: &str, _, _| {
            if head.contains("/addresses ") { Treatment::Answer(status) } else { PASS }
        };
        let replicas = Recorder::before(&cache.url, rule).await;
        let paths: Vec<_> =
            (0..5).map(|index| cache.store.add(&format!("{status}-{index}"), &[("x", &[index])])).collect();
        let push: Vec<&str> = std::iter::once("push").chain(paths.iter().map(StorePath::as_str)).collect();
        cache.niks3(&push).env("NIKS3_SERVER_URL", &replicas.url).run().await.succeeded();
        let calls = replicas.calls();
        let count = |end: &str| calls.iter().filter(|call| call.key.ends_with(end)).count();
        assert_eq!(count("/addresses"), 1, "it is asked for once: {calls:?}");
        assert_eq!(count("pending_closures"), 2, "one begin with them and one without: {calls:?}");
        cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &paths[0]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_on_its_way_is_sent_once_more() {
    // Each object's first PUT arrives with another byte.
    let seen = Mutex::new(HashSet::new());
    let first = move |head: &str, _, _| {
        let path = head.split('?').next().unwrap().to_owned();
        if seen.lock().unwrap().insert(path) { Treatment::Damage } else { PASS }
    };
    let s3 = Recorder::before(&crate::support::environment("NIKS3_TEST_S3_ENDPOINT"), first).await;
    let cache = behind(&s3).await;
    let path = cache.store.add("tree", &[("x", &noise(100_000))]);
    cache.niks3(&["push", path.as_str()]).run().await.succeeded();
    let statuses: Vec<u16> = s3.calls().iter().map(|call| call.status).collect();
    assert_eq!(statuses, [400, 200, 400, 200], "NAR and listing, each twice");
    let copy = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &path).unwrap();
    cache.store.assert_equal(&path, &copy);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_again_is_said_with_its_path() {
    let s3 = Recorder::start(|_, _| Treatment::Damage).await;
    let cache = behind(&s3).await;
    let path = cache.store.add("tree", &[("x", &noise(100_000))]);
    let said = cache.niks3(&["push", path.as_str()]).hide(s3.url.split_once("//").unwrap().1, "S3").run();
    let said = said.await.failed(1);
    assert!(said.contains("-tree could not be uploaded: S3 got other bytes than were sent"), "{said}");
    assert_eq!(s3.calls().len(), 2, "once more, and no more often");
    cache.assert_nothing_committed().await;
}

async fn behind(s3: &Recorder) -> Cache {
    let url = s3.url.clone();
    Cache::with(|parts, _| {
        parts.bucket.public_endpoint = Some(url);
        parts.settings.bound = true;
    })
    .await
}
