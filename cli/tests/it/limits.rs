//! What a push does when something fails, is slow, or is asked for too often.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use niks3_protocol::nix::StorePath;

use crate::support::Cache;
use crate::support::nix::noise;
use crate::support::recorder::{Recorder, Treatment};

async fn behind(recorder: &Recorder) -> Cache {
    let url = recorder.url.clone();
    Cache::with(|parts, _| parts.bucket.public_endpoint = Some(url)).await
}

/// Deletes what Nix still believes to be there.
fn delete(path: &StorePath) {
    let done = std::process::Command::new("chmod").args(["-R", "u+w", path.as_str()]).status().unwrap();
    assert!(done.success());
    std::fs::remove_dir_all(path.as_str()).unwrap();
}

/// Names of the committed roots.
async fn roots(cache: &Cache) -> Vec<String> {
    let paths = "select store_path from closures join narinfos using (key)";
    let paths: Vec<String> = sqlx::query_scalar(paths).fetch_all(&cache.app.db).await.unwrap();
    let mut names: Vec<String> =
        paths.iter().map(|path| path.rsplit('/').next().unwrap()[33..].to_owned()).collect();
    names.sort();
    names
}

/// The same, however much a push had sent when it failed.
fn unhurried(said: &str) -> String {
    said.replace("; what an interrupted push sent is not sent again", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_pushed_is_pushed() {
    let cache = Cache::start().await;
    let add = |name: &str, content: &[u8]| cache.store.add(name, &[("x", content)]);
    let (sound, gone, deep) = (add("sound", b"1"), add("gone", &noise(12_000_000)), add("deep", b"3"));
    let middle = cache.store.build("middle", &format!("echo {deep} > $out"), &[&deep]);
    let script = format!("echo {sound} {gone} {middle} > $out");
    let root = cache.store.build("root", &script, &[&sound, &gone, &middle]);
    let other = add("other", b"4");
    delete(&gone);
    let paths = [root.as_str(), other.as_str(), "/nowhere/at/all"];
    insta::assert_snapshot!(cache.niks3(&["push", paths[0], paths[1]]).run().await.failed(1), @r"
    6 paths: 0 cached, 6 to upload (SIZE)
    error: /nix/store/HASH-gone was deleted while it was pushed, as Nix's garbage collection does; it was not pushed
    ");
    cache.assert_nothing_committed().await;

    let push = [&["push", "--keep-going"][..], &paths].concat();
    insta::assert_snapshot!(unhurried(&cache.niks3(&push).run().await.stderr_of(1)), @r"
    error: /nowhere/at/all cannot be read: No such file or directory (os error 2)
    6 paths: 0 cached, 6 to upload (SIZE)
    error: /nix/store/HASH-gone was deleted while it was pushed, as Nix's garbage collection does; it was not pushed
    Pushed 4 paths to SERVER: SIZE sent in TIME
    error: /nix/store/HASH-root needs /nix/store/HASH-gone; it was not pushed
    error: 3 paths were not pushed
    ");
    assert_eq!(roots(&cache).await, ["middle", "other", "sound"]);
    for path in [&middle, &other, &sound] {
        let copy = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), path).unwrap();
        cache.store.assert_equal(path, &copy);
    }
    assert_eq!(cache.count("select count(*) from objects where live and key like '%.narinfo'").await, 4);

    // What fails again fails again, and the rest costs nothing.
    insta::assert_snapshot!(unhurried(&cache.niks3(&push).run().await.stderr_of(1)), @r"
    error: /nowhere/at/all cannot be read: No such file or directory (os error 2)
    5 paths: 3 cached, 2 to upload (SIZE)
    error: /nix/store/HASH-gone was deleted while it was pushed, as Nix's garbage collection does; it was not pushed
    error: /nix/store/HASH-root needs /nix/store/HASH-gone; it was not pushed
    error: 3 paths were not pushed
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nar_larger_than_the_cache_takes_is_named_before_anything_is_read() {
    let cache = Cache::with(|parts, _| parts.settings.limits.nar_bytes = 1_000_000).await;
    let add = |name: &str, content: &[u8]| cache.store.add(name, &[("x", content)]);
    let (small, large, other) = (add("small", b"1"), add("large", &noise(12_000_000)), add("other", b"4"));
    let root = cache.store.build("root", &format!("echo {small} {large} > $out"), &[&small, &large]);
    // Whoever read it would say that it is gone.
    delete(&large);
    let paths = [root.as_str(), other.as_str()];
    insta::assert_snapshot!(cache.niks3(&["push", paths[0], paths[1]]).run().await.failed(1), @"error: /nix/store/HASH-large could not be uploaded: its NAR has 12000280 bytes, and this cache takes NARs of 1000000 at most, which whoever runs it may raise (--max-nar-size, of a BinaryCache server.uploads.maxNarSize) (SERVER answered 413 Payload Too Large)");
    cache.assert_nothing_committed().await;
    let push = ["push", "--keep-going", paths[0], paths[1]];
    insta::assert_snapshot!(unhurried(&cache.niks3(&push).run().await.stderr_of(1)), @r"
    error: /nix/store/HASH-large could not be uploaded: its NAR has 12000280 bytes, and this cache takes NARs of 1000000 at most, which whoever runs it may raise (--max-nar-size, of a BinaryCache server.uploads.maxNarSize) (SERVER answered 413 Payload Too Large)
    2 paths: 0 cached, 2 to upload (SIZE)
    Pushed 2 paths to SERVER: SIZE sent in TIME
    error: /nix/store/HASH-root needs /nix/store/HASH-large; it was not pushed
    error: 2 paths were not pushed
    ");
    assert_eq!(roots(&cache).await, ["other", "small"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_nix_does_not_know_stops_no_other() {
    let cache = Cache::start().await;
    let path = cache.store.add("tree", &[("x", b"x")]);
    let stray = format!("{}/11111111111111111111111111111111-stray", cache.store.directory());
    std::fs::write(&stray, "x").unwrap();
    std::fs::set_permissions(&stray, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = cache.niks3(&["push", "--keep-going", &stray, path.as_str()]).run().await.stderr_of(1);
    insta::assert_snapshot!(said, @r"
    error: nix does not know all of the closure: path '/nix/store/HASH-stray' is not valid
    1 path: 0 cached, 1 to upload (SIZE)
    Pushed 1 path to SERVER: SIZE sent in TIME
    error: 1 path was not pushed
    ");
    assert_eq!(roots(&cache).await, ["tree"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_is_sent_again() {
    let pause = |index, _| Treatment::Pass(Duration::from_secs(if index == 0 { 120 } else { 0 }));
    let recorder = Recorder::start(pause).await;
    let cache = behind(&recorder).await;
    let path = cache.store.add("tree", &[("x", b"x")]);
    let started = Instant::now();
    let push = cache.niks3(&["push", "--timeout=3s", "--debug", path.as_str()]);
    let said = push.run().await.succeeded();
    assert!(said.contains("did not answer within 3s"), "{said}");
    assert!(started.elapsed() < Duration::from_mins(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_bucket_does_not_eat_the_job() {
    let recorder = Recorder::start(|_, _| Treatment::Pass(Duration::from_mins(10))).await;
    let cache = behind(&recorder).await;
    let root = cache.store.closure();
    let push = |more: &[&str]| cache.niks3(&[&["push", "--deadline=6s", root.as_str()], more].concat());
    insta::assert_snapshot!(push(&[]).run().await.failed(1), @r"
    3 paths: 0 cached, 3 to upload (SIZE)
    error: the push did not end within 6s
    hint: the next push goes on where this one stopped
    ");
    let said = push(&["--best-effort"]).run().await.succeeded();
    insta::assert_snapshot!(said, @r"
    3 paths: 0 cached, 3 to upload (SIZE)
    warning: the push did not end within 6s
    ");
    cache.assert_nothing_committed().await;

    // Whose fault it is makes the difference.
    std::fs::write(cache.token_file(), "another-token-0123456789012345678901234567").unwrap();
    let said = push(&["--best-effort"]).run().await.failed(2);
    assert!(said.starts_with("error: the token is not valid here"), "{said}");
    for nothing in ["0s", "-1s", "soon"] {
        let argument = format!("--deadline={nothing}");
        let outcome = cache.niks3(&["push", &argument, root.as_str()]).run().await;
        assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_requests_at_a_time_where_s3_asks_for_it() {
    const ABLE: usize = 4;
    let pass = Treatment::Pass(Duration::from_millis(40));
    let rule = move |_, under_way| if under_way > ABLE { Treatment::Answer(503) } else { pass };
    let recorder = Recorder::start(rule).await;
    let cache = behind(&recorder).await;
    let paths: Vec<StorePath> = (0..80)
        .map(|index: u32| cache.store.add(&format!("path-{index}"), &[("x", &index.to_le_bytes())]))
        .collect();
    let arguments: Vec<&str> = std::iter::once("push").chain(paths.iter().map(StorePath::as_str)).collect();
    cache.niks3(&arguments).run().await.succeeded();
    let calls = recorder.calls();
    let refused = calls.iter().filter(|call| call.status == 503).count();
    let late = calls[calls.len() / 2..].iter().filter(|call| call.status == 503).count();
    assert!(refused > 0 && late < calls.len() / 10, "{refused} refused, {late} late, of {}", calls.len());
    assert_eq!(recorder.taken().len(), 160, "NARs and listings");
}

/// More than there is memory for at a time, and each of fewer parts than are sent at a time.
#[tokio::test(flavor = "multi_thread")]
async fn large_nars_do_not_wait_for_each_others_memory() {
    let cache = Cache::start().await;
    let content = noise(12_000_008);
    let paths: Vec<StorePath> =
        (0..8).map(|index| cache.store.add(&format!("large-{index}"), &[("x", &content[index..])])).collect();
    let arguments = ["push", "--jobs=8"].into_iter().chain(paths.iter().map(StorePath::as_str));
    let push = cache.niks3(&arguments.collect::<Vec<_>>());
    let outcome = tokio::time::timeout(Duration::from_secs(100), push.run()).await;
    outcome.expect("it stands still").succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_s3_refuses_is_no_permission_of_the_cache() {
    let recorder = Recorder::start(|_, _| Treatment::Answer(403)).await;
    let cache = behind(&recorder).await;
    let path = cache.store.add("tree", &[("x", b"x")]);
    let push = |more: &[&str]| {
        let push = cache.niks3(&[&["push", path.as_str()], more].concat());
        push.hide(recorder.url.split_once("//").unwrap().1, "S3").run()
    };
    insta::assert_snapshot!(push(&[]).await.failed(1), @r"
    1 path: 0 cached, 1 to upload (SIZE)
    error: /nix/store/HASH-tree could not be uploaded: S3 refused the upload (S3 answered 403 Forbidden)
    hint: the server signs such uploads: is its clock right, and do its credentials and the bucket's policy let it write?
    ");
    let said = push(&["--best-effort"]).await.succeeded();
    assert!(said.contains("warning: /nix/store/HASH-tree could not be uploaded"), "{said}");
}
