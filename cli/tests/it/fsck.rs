//! `niks3 fsck`: the server compares, the client tells.

use std::path::Path;

use niks3_protocol::nix::SecretKey;
use niks3_server::fsck::{self, Options};

use crate::support::Cache;
use crate::support::program::Niks3;
use crate::support::script::Script;

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_told_repaired_within_limits_and_has_an_exit_code() {
    let cache = Cache::start().await;
    let path = cache.store.add("lost", &[("x", b"lost")]);
    cache.niks3(&["push", path.as_str()]).run().await.succeeded();
    let said = cache.niks3(&["fsck"]).run().await.succeeded();
    assert!(said.contains("and 3 rows; 0 missing, 0 of another size"), "{said}");

    // As if the object had another size than was committed.
    cache.count("with lost as (update objects set stored_size = 1 where key like '%.ls' returning 1) select count(*) from lost").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("result");
    let damaged = cache.niks3(&["fsck", "--result-file", file.to_str().unwrap()]).run().await;
    assert_eq!(damaged.code, Some(3), "{}", damaged.stderr);
    assert!(damaged.stdout.starts_with("other_size    "), "{}", damaged.stdout);
    let said = damaged.stderr;
    assert!(said.contains("1 findings are left; --repair makes the way free"), "{said}");
    let result = std::fs::read_to_string(&file).unwrap();
    assert!(
        result.contains(r#""kind":"other_size""#) && result.contains(r#""state":"succeeded""#),
        "{result}"
    );
    let shown = cache.niks3(&["fsck", "show", "--json"]).run().await;
    assert_eq!(shown.code, Some(3), "{}", shown.stderr);
    assert!(shown.stdout.contains(r#""other_size":1"#), "{}", shown.stdout);

    let stopped = cache.niks3(&["fsck", "--repair", "--max-delete-percent=20"]).run().await;
    assert_eq!(stopped.code, Some(2), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("1 of 3 objects differ, and 20 % may be repaired"), "{}", stopped.stderr);
    cache.niks3(&["fsck", "--repair", "--deep"]).run().await.succeeded();
    cache.niks3(&["fsck"]).run().await.succeeded();
    let nothing = cache.niks3(&["fsck", "abort"]).run().await.failed(1);
    assert!(nothing.contains("no comparison is running"), "{nothing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_is_told_from_one_that_cannot_be_reached() {
    let old = Script::start(|request| match request.line.as_str() {
        line if line.starts_with("GET /api/cache-config") => {
            (200, "", r#"{"substituter_url":"http://x","public_keys":[]}"#.to_owned())
        }
        _ => (404, "", "404 page not found".to_owned()),
    })
    .await;
    let said = Niks3::new(&["fsck", "--server-url", &old.url]).run().await.failed(1);
    assert!(said.contains("is a server of an older version, which cannot compare its bucket"), "{said}");
}

/// `nix copy` lays out a folder as it does a bucket, and Debian's Nix is built without S3.
#[tokio::test(flavor = "multi_thread")]
async fn what_nix_copy_wrote_is_adopted_and_nix_reads_it_as_before() {
    let cache = Cache::start().await;
    let library = cache.store.add("library", &[("x", b"library")]);
    let script = format!("mkdir -p $out; echo {library} > $out/needs");
    let app = cache.store.build("app", &script, &[&library]);
    let (key, folder) = (SecretKey::from_seed("old-1", [3; 32]).unwrap(), cache.folder.path().join("bucket"));
    let secret = cache.folder.path().join("old-key");
    std::fs::write(&secret, key.to_secret_text()).unwrap();
    let to = format!("file://{}?secret-key={}", folder.display(), secret.display());
    let copy = ["--extra-experimental-features", "nix-command", "copy", "--to", &to, app.as_str()];
    cache.store.ask("nix", &copy);
    let mut nars = 0;
    for (name, file) in files(&folder) {
        nars += u64::from(name.starts_with("nar/"));
        let bytes = std::fs::read(file).unwrap();
        cache.app.bucket.put_own(&name, "application/octet-stream", bytes).await.unwrap();
    }
    assert_eq!(nars, 2);

    let (mut report, options) = (Vec::new(), Options { adopt: true, deep: true, ..Options::default() });
    let summary = fsck::run(&cache.app, &options, &mut report).await.unwrap();
    assert!(summary.is_clean(), "{}", String::from_utf8_lossy(&report));
    assert_eq!((summary.adopted, summary.nars_read), (2, 2), "{summary:?}");
    let copied = cache.store.copy_from(&cache.url, &key.public_key().to_string(), &app).unwrap();
    cache.store.assert_equal(&app, &copied);
    let said = cache.niks3(&["push", app.as_str()]).run().await.succeeded();
    assert!(said.contains("already"), "{said}");
}

/// All files below a folder, by their keys.
fn files(folder: &Path) -> Vec<(String, std::path::PathBuf)> {
    let (mut pending, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(folder).unwrap().display().to_string();
                found.push((name, entry.path()));
            }
        }
    }
    found
}
