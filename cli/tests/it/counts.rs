//! What a push costs, in things that can be counted: none of this may grow unnoticed.

use std::collections::BTreeMap;
use std::time::Duration;

use niks3_protocol::nix::StorePath;

use crate::support::Cache;
use crate::support::nix::noise;
use crate::support::recorder::{Recorder, Treatment};

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_push() {
    let recorder = Recorder::start(|_, _| Treatment::Pass(Duration::ZERO)).await;
    let url = recorder.url.clone();
    let cache = Cache::with(|parts, _| parts.bucket.public_endpoint = Some(url)).await;
    // Twenty small paths, each a NAR and a listing, and one of 35 MB, in parts of 10 MiB.
    let mut paths: Vec<_> = (0..20_u32)
        .map(|index| cache.store.add(&format!("small-{index}"), &[("x", &index.to_le_bytes())]))
        .collect();
    paths.push(cache.store.add("large", &[("x", &noise(35_000_000))]));
    let push: Vec<&str> = std::iter::once("push").chain(paths.iter().map(StorePath::as_str)).collect();
    cache.niks3(&push).run().await.succeeded();
    assert_eq!(recorder.calls().len(), 20 + 21 + 4, "NARs, listings, parts");
    let requests = cache.requests().await;
    assert_eq!(requests.values().sum::<u64>(), 6, "{requests:?}");

    cache.niks3(&push).run().await.succeeded();
    assert_eq!(recorder.calls().len(), 45, "something was sent again");
    assert_eq!(cache.requests().await.values().sum::<u64>(), 7, "cached, it is one call");
}

/// What the server itself does for a push: statements to PostgreSQL, which do not grow with the objects, and calls
/// to S3, one an object.
#[tokio::test(flavor = "multi_thread")]
async fn work_of_the_server_for_a_push() {
    let recorder = Recorder::start(|_, _| Treatment::Pass(Duration::ZERO)).await;
    let url = recorder.url.clone();
    let cache = Cache::with(|parts, _| parts.bucket.endpoint = Some(url)).await;
    sqlx::raw_sql("create extension pg_stat_statements").execute(&cache.app.db).await.unwrap();
    let statements = "select coalesce(sum(calls), 0)::bigint from pg_stat_statements where dbid = (select oid from \
                      pg_database where datname = current_database())";
    let push = async |name: &str, count: u32| {
        let add = |index| {
            cache.store.add(&format!("{name}-{index}"), &[("x", format!("{name} {index}").as_bytes())])
        };
        let paths: Vec<StorePath> = (0..count).map(add).collect();
        let arguments: Vec<&str> =
            std::iter::once("push").chain(paths.iter().map(StorePath::as_str)).collect();
        let (asked, called) = (cache.count(statements).await, recorder.calls().len());
        cache.niks3(&arguments).run().await.succeeded();
        let mut methods: BTreeMap<String, usize> = BTreeMap::new();
        for call in &recorder.calls()[called..] {
            *methods.entry(call.method.clone()).or_default() += 1;
        }
        (cache.count(statements).await - asked, methods)
    };
    let calls = |head, put| BTreeMap::from([("HEAD".to_owned(), head), ("PUT".to_owned(), put)]);
    let (few, methods) = push("few", 5).await;
    assert_eq!(methods, calls(10, 5), "a look at each NAR and listing, and a narinfo to write");
    let (many, methods) = push("many", 40).await;
    assert_eq!(methods, calls(80, 40));
    println!("{few} statements for 5 paths, {many} for 40");
    assert!((1..=48).contains(&few), "{few} statements");
    assert!(many <= few + 10, "{many} statements for 40 paths, {few} for 5");
}

/// Where the server says that addresses are bound to bytes they are asked for when these are there, many at a time.
#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_push_by_bound_addresses() {
    let recorder = Recorder::start(|_, _| Treatment::Pass(Duration::ZERO)).await;
    let url = recorder.url.clone();
    let cache = Cache::with(|parts, _| {
        parts.bucket.public_endpoint = Some(url);
        parts.settings.bound = true;
    })
    .await;
    let mut paths: Vec<_> = (0..40_u32)
        .map(|index| cache.store.add(&format!("small-{index}"), &[("x", &index.to_le_bytes())]))
        .collect();
    paths.push(cache.store.add("large", &[("x", &noise(35_000_000))]));
    let push: Vec<&str> = std::iter::once("push").chain(paths.iter().map(StorePath::as_str)).collect();
    cache.niks3(&push).run().await.succeeded();
    assert_eq!(recorder.calls().len(), 40 + 41 + 4, "NARs, listings, parts");
    let requests = cache.requests().await;
    let asked = requests["POST /api/pending_closures/{id}/addresses 200"];
    println!("{asked} calls for 81 objects");
    assert!((1..=27).contains(&asked), "{requests:?}");
    assert_eq!(requests.values().sum::<u64>(), 6 + asked, "{requests:?}");
    let root = &paths[0];
    cache.store.copy_from(&cache.url, &cache.public_key.to_string(), root).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_of_a_large_push() {
    let cache = Cache::start().await;
    let path = cache.store.add("large", &[("x", &noise(300 << 20))]);
    let peak = peak(cache.niks3(&["push", path.as_str()]).spawn()).await;
    assert!(cache.s3.bytes() > 300 << 20);
    assert!((1..=200).contains(&peak), "{peak} MiB at most");
}

/// One encoder of level 19 takes 90 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn memory_of_a_push_at_the_highest_level_with_many_jobs() {
    let cache = Cache::start().await;
    let content = noise(17 << 20);
    let add = |index: usize| cache.store.add(&format!("large-{index}"), &[("x", &content[index..])]);
    let paths: Vec<StorePath> = (0..5).map(add).collect();
    let arguments = ["push", "--compression-level=19", "--jobs=16"];
    let push: Vec<&str> = arguments.into_iter().chain(paths.iter().map(StorePath::as_str)).collect();
    let peak = peak(cache.niks3(&push).spawn()).await;
    assert!((1..=200).contains(&peak), "{peak} MiB at most");
}

/// The most memory of a push that succeeds, in MiB.
async fn peak(mut push: tokio::process::Child) -> u64 {
    let status = format!("/proc/{}/status", push.id().unwrap());
    let mut peak = 0;
    while push.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(push.wait().await.unwrap().success());
    peak >> 10
}
