//! A push that something stops: one sentence, exit 1, and nothing committed.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::support::Cache;

/// Changes a file of the store, as only an accident does.
fn damage(file: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let folder = std::path::Path::new(file).parent().unwrap();
    for path in [folder, std::path::Path::new(file)] {
        let mode = std::fs::metadata(path).unwrap().permissions().mode() | 0o200;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut content = std::fs::read(file).unwrap();
    change(&mut content);
    // In place: whoever reads it meanwhile is not to find it shorter.
    let mut file = std::fs::File::options().write(true).open(file).unwrap();
    file.write_all(&content).unwrap();
    file.set_len(content.len() as u64).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_is_not_pushed() {
    let cache = Cache::start().await;
    for (name, size) in [("small", 1_000_usize), ("large", 12_000_000)] {
        let other: fn(&mut Vec<u8>) = |content| content[500] ^= 1;
        let shorter: fn(&mut Vec<u8>) = |content| content.truncate(content.len() - 1);
        let longer: fn(&mut Vec<u8>) = |content| content.extend(vec![0; 100_000]);
        for (index, change) in [other, shorter, longer].into_iter().enumerate() {
            let name = format!("{name}-{index}");
            let content = crate::support::nix::noise(size + index);
            let path = cache.store.add(&name, &[("file", &content)]);
            damage(&format!("{path}/file"), change);
            let said = cache.niks3(&["push", path.as_str()]).run().await.failed(1);
            let error = said.lines().last().unwrap().replace(&name, "NAME");
            insta::allow_duplicates! { insta::assert_snapshot!(error, @"error: /nix/store/HASH-NAME is not what Nix recorded: it changed on disk, or the disk is damaged; it was not pushed") };
        }
    }
    cache.assert_nothing_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_sent_is_not_pushed() {
    let mut cache = Cache::start().await;
    let content = crate::support::nix::noise(60_000_000);
    let path = cache.store.add("tree", &[("file", &content)]);
    // S3 is away, so the first parts wait while the end of the file is still unread.
    cache.s3.down().await;
    let push = cache.niks3(&["push", path.as_str()]).run();
    let change = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        damage(&format!("{path}/file"), |content| *content.last_mut().unwrap() ^= 1);
        cache.s3.up();
    };
    let (outcome, ()) = tokio::join!(push, change);
    let said = outcome.failed(1);
    assert!(said.contains("tree is not what Nix recorded"), "{said}");
    cache.assert_nothing_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_became_something_else_is_not_pushed() {
    let cache = Cache::start().await;
    let path = cache.store.add("tree", &[("file", b"x")]);
    damage(&format!("{path}/file"), |_| ());
    std::fs::remove_dir_all(path.as_str()).unwrap();
    std::fs::write(path.as_str(), "").unwrap();
    let said = cache.niks3(&["push", path.as_str()]).run().await.failed(1);
    insta::assert_snapshot!(said, @r"
    1 path: 0 cached, 1 to upload (SIZE)
    error: /nix/store/HASH-tree is not what Nix recorded: it changed on disk, or the disk is damaged; it was not pushed
    ");
    cache.assert_nothing_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_away_is_tried_again_and_then_said() {
    let mut cache = Cache::start().await;
    let root = cache.store.closure();
    cache.s3.down().await;
    let said = cache.niks3(&["push", root.as_str()]).run().await.failed(1);
    assert!(said.starts_with("3 paths: 0 cached, 3 to upload (SIZE)\nerror: /nix/store/HASH-"), "{said}");
    let end = " could not be uploaded: S3 cannot be reached: Connection refused (os error 111)\n";
    assert!(said.ends_with(end), "{said}");
    cache.assert_nothing_committed().await;
    let refused = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &root).unwrap_err();
    assert!(refused.contains("no substituter that can build it"), "{refused}");

    cache.s3.up();
    cache.niks3(&["push", root.as_str()]).run().await.succeeded();
    let copy = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &root).unwrap();
    cache.store.assert_equal(&root, &copy);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_going_away_midway_commits_nothing() {
    let cache = Cache::start().await;
    let root = cache.store.closure();
    cache.s3.cut_after(4_000_000);
    let said = cache.niks3(&["push", root.as_str()]).run().await.failed(1);
    assert!(said.contains("could not be uploaded: S3 cannot be reached: "), "{said}");
    assert!(cache.s3.bytes() > 4_000_000);
    cache.assert_nothing_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_away_for_a_moment_is_survived() {
    let mut cache = Cache::start().await;
    let root = cache.store.closure();
    cache.s3.cut_after(4_000_000);
    let push = cache.niks3(&["push", root.as_str()]).run();
    let repair = async {
        while cache.s3.bytes() < 4_000_000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        cache.s3.down().await;
        cache.s3.up();
    };
    let (outcome, ()) = tokio::join!(push, repair);
    outcome.succeeded();
    let copy = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &root).unwrap();
    cache.store.assert_equal(&root, &copy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_said() {
    let cache = Cache::start().await;
    let path = cache.store.add("tree", &[("x", b"x")]);
    // Nothing listens there: a port that a server of ours gave up may be another test's by now.
    let push = cache.niks3(&["push", path.as_str()]).env("NIKS3_SERVER_URL", "http://127.0.0.1:1");
    insta::assert_snapshot!(push.run().await.failed(1), @"error: 127.0.0.1:1 cannot be reached: Connection refused (os error 111)");
}
