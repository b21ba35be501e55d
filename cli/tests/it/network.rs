//! A network that goes away in the middle of a push and comes back: the next push goes on where that one was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use niks3_protocol::nix::StorePath;

use crate::support::nix::noise;
use crate::support::program::Niks3;
use crate::support::recorder::{Recorder, Treatment};
use crate::support::relay::Relay;
use crate::support::{Cache, environment};

/// A cache whose S3 is reached by `s3` alone, and a path of six parts.
async fn cache(s3: &str) -> (Cache, StorePath) {
    let url = s3.to_owned();
    let cache = Cache::with(|parts, _| parts.bucket.public_endpoint = Some(url)).await;
    let path = cache.store.add("big", &[("x", &noise(60_000_000))]);
    (cache, path)
}

type Taken = BTreeMap<(String, Option<u32>), usize>;

/// How often S3 took each part.
fn parts(recorder: &Recorder) -> Taken {
    recorder.taken().into_iter().filter(|((_, part), _)| part.is_some()).collect()
}

/// While parts are sent: some are there, and more are to come.
async fn midway(recorder: &Recorder) {
    while parts(recorder).len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Pushes again and asserts that it went on: S3 took one part more than once at most, counted in calls.
async fn goes_on(cache: &Cache, path: &StorePath, recorder: &Recorder, push: Niks3) {
    cache.assert_nothing_committed().await;
    let before = parts(recorder);
    let said = push.run().await.succeeded();
    assert!(said.contains("from an interrupted push"), "{said}");
    let after = parts(recorder);
    let again: usize = before.iter().map(|(part, count)| after[part] - count).sum();
    assert!(again <= 1, "{before:?}\n{after:?}\n{said}");
    assert_eq!(after.len(), 6, "{after:?}");
    let copy = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), path).unwrap();
    cache.store.assert_equal(path, &copy);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_that_went_away_midway_gets_at_most_one_part_twice() {
    let recorder = Recorder::start(|_, _| Treatment::Pass(Duration::from_millis(200))).await;
    let mut relay = Relay::to(recorder.url.trim_start_matches("http://"));
    let (cache, path) = cache(&format!("http://{}", relay.address)).await;
    let push = || cache.niks3(&["push", path.as_str()]).hide(&relay.address.to_string(), "S3");
    let (first, second) = (push(), push());
    let away = async {
        midway(&recorder).await;
        relay.down().await;
    };
    let (outcome, ()) = tokio::join!(first.run(), away);
    insta::assert_snapshot!(outcome.failed(1), @r"
    1 path: 0 cached, 1 to upload (SIZE)
    error: /nix/store/HASH-big could not be uploaded: S3 cannot be reached: Connection refused (os error 111)
    ");
    relay.up();
    goes_on(&cache, &path, &recorder, second).await;
}

/// Nothing refuses the connections: they are swallowed.
#[tokio::test(flavor = "multi_thread")]
async fn s3_that_fell_silent_midway_gets_at_most_one_part_twice() {
    let silent = Arc::new(AtomicBool::new(false));
    let is_silent = Arc::clone(&silent);
    let rule = move |_: &str, _: usize, _: usize| {
        if is_silent.load(Ordering::Relaxed) {
            Treatment::AnswerLate(Duration::from_mins(10), 503)
        } else {
            Treatment::Pass(Duration::from_millis(200))
        }
    };
    let recorder = Recorder::before(&environment("NIKS3_TEST_S3_ENDPOINT"), rule).await;
    let (cache, path) = cache(&recorder.url).await;
    let push = |more: &[&str]| {
        let push = cache.niks3(&[&["push", path.as_str()], more].concat());
        push.hide(recorder.url.trim_start_matches("http://"), "S3")
    };
    let away = async {
        midway(&recorder).await;
        silent.store(true, Ordering::Relaxed);
    };
    let (outcome, ()) = tokio::join!(push(&["--timeout=3s"]).run(), away);
    insta::assert_snapshot!(outcome.failed(1), @r"
    1 path: 0 cached, 1 to upload (SIZE)
    error: /nix/store/HASH-big could not be uploaded: S3 did not answer within 3s
    ");
    silent.store(false, Ordering::Relaxed);
    goes_on(&cache, &path, &recorder, push(&[])).await;
}

/// S3 is there all the time; the server that would put the parts together is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_went_away_midway_costs_no_part_that_is_there() {
    let recorder = Recorder::start(|_, _| Treatment::Pass(Duration::from_millis(200))).await;
    let (cache, path) = cache(&recorder.url).await;
    let mut relay = Relay::to(cache.url.trim_start_matches("http://"));
    let address = relay.address.to_string();
    let push = || {
        let push = cache.niks3(&["push", path.as_str()]).hide(&address, "SERVER");
        push.env("NIKS3_SERVER_URL", format!("http://{address}"))
    };
    let away = async {
        midway(&recorder).await;
        relay.down().await;
    };
    let (outcome, ()) = tokio::join!(push().run(), away);
    insta::assert_snapshot!(outcome.failed(1), @r"
    1 path: 0 cached, 1 to upload (SIZE)
    error: SERVER cannot be reached: Connection refused (os error 111)
    ");
    relay.up();
    goes_on(&cache, &path, &recorder, push()).await;
}
