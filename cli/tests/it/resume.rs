//! A push that was interrupted goes on where it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use niks3_protocol::nix::StorePath;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::support::nix::noise;
use crate::support::recorder::{Recorder, Treatment};
use crate::support::{Cache, environment};

/// Later than upload addresses live.
const LATE: Duration = Duration::from_secs(6);

async fn cache(recorder: &Recorder) -> Cache {
    let url = recorder.url.clone();
    Cache::with(|parts, _| parts.bucket.public_endpoint = Some(url)).await
}

/// A path of that many megabytes that refers to one of 12 and one of half a megabyte.
fn large(cache: &Cache, index: usize, megabytes: usize) -> StorePath {
    let content = |size: usize| -> Vec<u8> { noise(size + index).into_iter().rev().collect() };
    let add = |name: &str, size| cache.store.add(&format!("{name}-{index}"), &[("x", &content(size))]);
    let (middle, small) = (add("middle", 12_000_000), add("small", 500_000));
    let big = add("big", megabytes * 1_000_000);
    let script = format!("echo {middle} {small} {big} > $out");
    cache.store.build(&format!("root-{index}"), &script, &[&middle, &small, &big])
}

#[expect(clippy::disallowed_methods, reason = "a seed is for the one who runs the test")]
fn chosen_seed() -> Option<u64> {
    std::env::var("NIKS3_TEST_SEED").ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_sends_at_most_one_part_twice() {
    let recorder = Recorder::start(|_, _| Treatment::Pass(Duration::from_millis(30))).await;
    let cache = cache(&recorder).await;
    // A seed that failed is tried again by its variable.
    let seed = chosen_seed().unwrap_or_else(rand::random);
    println!("NIKS3_TEST_SEED={seed}");
    let (mut random, mut kept) = (StdRng::seed_from_u64(seed), 0);
    // 80 MB are compressed on all cores, which must come to the same bytes each time.
    for (index, megabytes) in [40, 80, 40, 80].into_iter().enumerate() {
        let root = large(&cache, index, megabytes);
        let before = recorder.begun();
        let calls = random.random_range(1..=megabytes / 10);
        let pause = Duration::from_millis(random.random_range(0..60));
        let mut push = cache.niks3(&["push", root.as_str()]).spawn();
        while recorder.begun() < before + calls && push.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(pause).await;
        push.kill().await.unwrap();
        let at_kill = recorder.taken();

        let said = cache.niks3(&["push", root.as_str()]).run().await.succeeded();
        let more = recorder.taken().into_iter().filter(|((_, part), _)| part.is_some());
        let twice: Vec<_> =
            more.filter(|(what, count)| at_kill.get(what).is_some_and(|before| count > before)).collect();
        let moment = format!("seed {seed}: killed after {calls} calls and {pause:?}: {twice:?}\n{said}");
        assert!(twice.len() <= 1 && twice.iter().all(|(_, count)| *count == 2), "{moment}");
        kept += usize::from(said.contains("from an interrupted push"));
        assert!(
            cache.count("select count(*) from closures").await > i64::try_from(index).unwrap(),
            "{moment}"
        );
        let copy = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &root).unwrap();
        cache.store.assert_equal(&root, &copy);
    }
    assert!(kept > 0, "seed {seed}: no kill came while parts were sent");
    assert_eq!(std::fs::read_dir(cache.folder.path().join("state/niks3/pushes")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_level_compressed_is_not_taken_for_the_same() {
    let recorder = Recorder::start(|_, _| Treatment::Pass(Duration::from_millis(30))).await;
    let cache = cache(&recorder).await;
    // Text, so that levels differ.
    let words: Vec<u8> = noise(20_000_000).into_iter().flat_map(|byte| [b'a' + byte % 16, b' ']).collect();
    let path = cache.store.add("text", &[("x", &words)]);
    for level in ["1", "3"] {
        let argument = format!("--compression-level={level}");
        let before = recorder.calls().len();
        let mut push = cache.niks3(&["push", &argument, path.as_str()]).spawn();
        while recorder.calls().len() < before + 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        push.kill().await.unwrap();
    }
    cache.niks3(&["push", "--compression-level=1", path.as_str()]).run().await.succeeded();
    let copy = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &path).unwrap();
    cache.store.assert_equal(&path, &copy);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bucket_lost_meanwhile_is_sent_again() {
    let recorder = Recorder::start(|_, _| Treatment::Pass(Duration::from_millis(30))).await;
    let cache = cache(&recorder).await;
    let root = large(&cache, 0, 30);
    let mut push = cache.niks3(&["push", root.as_str()]).spawn();
    while recorder.calls().len() < 8 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    push.kill().await.unwrap();
    let sent: Vec<String> = recorder.calls().into_iter().map(|call| call.key).collect();
    cache.app.bucket.delete(&sent).await;
    cache.niks3(&["push", root.as_str()]).run().await.succeeded();
    let copy = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &root).unwrap();
    cache.store.assert_equal(&root, &copy);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_no_more_is_begun_anew() {
    let recorder = Recorder::start(|_, _| Treatment::Pass(Duration::from_millis(30))).await;
    let cache = cache(&recorder).await;
    let root = large(&cache, 0, 40);
    let mut push = cache.niks3(&["push", root.as_str()]).spawn();
    while recorder.calls().len() < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    push.kill().await.unwrap();
    sqlx::query("delete from uploads").execute(&cache.app.db).await.unwrap();
    cache.niks3(&["push", root.as_str()]).run().await.succeeded();
    let copy = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &root).unwrap();
    cache.store.assert_equal(&root, &copy);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_expired_are_asked_for_anew() {
    expire(Treatment::Pass(LATE)).await;
}

/// Ceph refuses them without a reason.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_known_to_have_expired_where_s3_does_not_say_why_it_refuses() {
    expire(Treatment::AnswerLate(LATE, 403)).await;
}

/// All that comes at first is kept until its address is of no use.
async fn expire(first: Treatment) {
    let slow = move |index, _| if index < 6 { first } else { Treatment::Pass(Duration::ZERO) };
    let recorder = Recorder::start(slow).await;
    let url = recorder.url.clone();
    let cache = Cache::with(|parts, _| {
        parts.bucket.public_endpoint = Some(url);
        parts.settings.presign_expiry = Duration::from_secs(4); // a busy machine must send within it
    })
    .await;
    let root = large(&cache, 0, 30);
    cache.niks3(&["push", root.as_str()]).run().await.succeeded();
    assert!(recorder.calls().iter().any(|call| call.status == 403), "nothing expired");
    let copy = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &root).unwrap();
    cache.store.assert_equal(&root, &copy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_a_warning() {
    let cache = Cache::start().await;
    let root = cache.store.closure();
    let folder = cache.folder.path().join("full");
    std::fs::create_dir(&folder).unwrap();
    let full = "mount -t tmpfs -o size=4k none \"$XDG_STATE_HOME\" && \
                { head -c 5000 /dev/zero > \"$XDG_STATE_HOME/x\" 2> /dev/null || true; } && exec \"$0\" \"$@\"";
    let push = cache.niks3(&["push", root.as_str()]).within(&["unshare", "-rm", "sh", "-c", full]);
    let said = push.env("XDG_STATE_HOME", &folder).run().await.succeeded();
    assert!(said.contains("pushes/"), "{said}");
    let file = said.split("pushes/").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    insta::assert_snapshot!(said.replace(&file, "FILE"), @r"
    3 paths: 0 cached, 3 to upload (SIZE)
    warning: should this push be interrupted, the next one begins anew: FOLDER/full/niks3/pushes/FILE cannot be written: No space left on device (os error 28)
    Pushed 3 paths to SERVER: SIZE sent in TIME
    ");
    let push = cache.niks3(&["push", "--verify-s3-integrity", root.as_str()]);
    let said = push.env("XDG_STATE_HOME", "/dev/null").run().await.succeeded();
    insta::assert_snapshot!(said, @r"
    warning: should this push be interrupted, the next one begins anew: /dev/null/niks3/pushes cannot be written: Not a directory (os error 20)
    3 paths: 3 cached, 0 to upload (SIZE)
    All of it is in SERVER already; nothing was uploaded (TIME)
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_path_that_failed_stay_when_others_are_committed() {
    let failing = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&failing);
    let third = move |head: &str, _: usize, _: usize| {
        let refused = head.contains("partNumber=3&") && fails.load(Ordering::Relaxed);
        // Later than the parts before it, so that those are known to be there.
        if refused {
            Treatment::AnswerLate(Duration::from_secs(3), 400)
        } else {
            Treatment::Pass(Duration::ZERO)
        }
    };
    let recorder = Recorder::before(&environment("NIKS3_TEST_S3_ENDPOINT"), third).await;
    let cache = cache(&recorder).await;
    let (giant, other) =
        (cache.store.add("giant", &[("x", &noise(40_000_000))]), cache.store.add("other", &[("x", b"x")]));
    let push = || cache.niks3(&["push", "--keep-going", giant.as_str(), other.as_str()]).run();
    let said = push().await.stderr_of(1);
    assert!(said.contains("Pushed 1 path"), "{said}");
    failing.store(false, Ordering::Relaxed);
    let said = push().await.succeeded();
    assert!(said.contains("from an interrupted push"), "{said}");
    let taken = recorder.taken();
    let count = |part| taken.iter().find(|((_, number), _)| *number == Some(part)).map(|(_, count)| *count);
    assert_eq!([count(1), count(2), count(3)], [Some(1); 3], "{taken:?}");
}
