//! What is said, to whom, and in which form.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::support::Cache;
use crate::support::program::Niks3;
use crate::support::recorder::{Recorder, Treatment};

/// The lines of `--json`, paths by their names, those of paths in order, without what differs each time.
fn objects(text: &str) -> Vec<Value> {
    let mut objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = &mut objects.last_mut().unwrap()["summary"];
    assert!(summary["seconds"].as_f64().unwrap() > 0.0);
    summary
        .as_object_mut()
        .unwrap()
        .retain(|name, _| !["seconds", "bytes_sent", "server"].contains(&name.as_str()));
    let last = objects.len() - 1;
    for object in &mut objects[..last] {
        let path = object["path"].as_str().unwrap().split('-').next_back().unwrap().to_owned();
        object["path"] = Value::from(path);
        if let Some(object) = object.as_object_mut() {
            object.remove("nar_size");
        }
    }
    objects[..last].sort_by_key(|object| object["path"].to_string());
    objects
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_for_each_path_and_a_summary() {
    let cache = Cache::start().await;
    let root = cache.store.closure();
    let push = async |path: &str| {
        let outcome = cache.niks3(&["push", "--json", "--keep-going", path]).run().await;
        objects(&outcome.stdout)
    };
    let uploaded = |path: &str| json!({ "path": path, "status": "uploaded" });
    let summary = |cached, uploaded, failed, error: Option<&str>| {
        json!({ "summary": { "cached": cached, "uploaded": uploaded, "failed": failed, "bytes_resumed": 0,
                             "error": error } })
    };
    let all = ["tree", "twin", "user"].map(uploaded);
    assert_eq!(push(root.as_str()).await, [&all[..], &[summary(0, 3, 0, None)]].concat());
    let cached = json!({ "path": "user", "status": "cached" });
    assert_eq!(push(root.as_str()).await, [cached, summary(1, 0, 0, None)]);

    let base = cache.store.add("base", &[("x", b"x")]);
    let user = cache.store.build("later", &format!("echo {base} {root} > $out"), &[&base, &root]);
    std::process::Command::new("chmod").args(["-R", "u+w", base.as_str()]).status().unwrap();
    std::fs::remove_dir_all(base.as_str()).unwrap();
    let lines = push(user.as_str()).await;
    let by_name =
        |name: &str| lines.iter().find(|line| line["path"] == name).unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!(by_name("base")["status"], "failed", "{lines:?}");
    assert!(by_name("base")["error"].as_str().unwrap().contains("was deleted"));
    assert!(by_name("later")["error"].as_str().unwrap().contains(" needs "));
    assert_eq!(*lines.last().unwrap(), summary(3, 0, 2, Some("2 paths were not pushed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_summary_of_a_push_that_failed_says_what_it_did() {
    // NAR and listing of the first path pass, and the NAR of the second one does not.
    let rule = |index, _| if index < 2 { Treatment::Pass(Duration::ZERO) } else { Treatment::Answer(400) };
    let recorder = Recorder::start(rule).await;
    let url = recorder.url.clone();
    let cache = Cache::with(|parts, _| parts.bucket.public_endpoint = Some(url)).await;
    let (first, second) =
        (cache.store.add("first", &[("x", &[b'x'; 1000])]), cache.store.add("second", &[("x", b"x")]));
    let push = ["push", "--json", "--max-concurrent-uploads=1", first.as_str(), second.as_str()];
    let outcome = cache.niks3(&push).run().await;
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    let lines: Vec<Value> = outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [uploaded, summary] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(uploaded["status"], "uploaded");
    let summary = &summary["summary"];
    assert_eq!((&summary["uploaded"], &summary["failed"]), (&json!(1), &json!(1)), "{summary}");
    assert!(summary["bytes_sent"].as_u64().unwrap() > 0, "{summary}");
    assert!(summary["error"].as_str().unwrap().contains("could not be uploaded"), "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_annotations_of_github() {
    let cache = Cache::start().await;
    let root = cache.store.closure();
    let push = |path: &str| cache.niks3(&["push", path]).env("GITHUB_ACTIONS", "true");
    insta::assert_snapshot!(push(root.as_str()).run().await.succeeded(), @r"
    ::group::niks3 push
    3 paths: 0 cached, 3 to upload (SIZE)
    ::endgroup::
    Pushed 3 paths to SERVER: SIZE sent in TIME
    ");
    insta::assert_snapshot!(push("/nowhere/100%").run().await.stderr_of(1), @"::error title=niks3::/nowhere/100%25 cannot be read: No such file or directory (os error 2)");
    let quiet = cache.niks3(&["push", "--quiet", "--verify-s3-integrity", root.as_str()]);
    assert_eq!(quiet.env("GITHUB_ACTIONS", "true").run().await.succeeded(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_pushed_as_they_come() {
    let cache = Cache::start().await;
    let (one, two) = (cache.store.add("one", &[("x", b"1")]), cache.store.add("two", &[("x", b"2")]));
    let mut push = cache.niks3(&["push", "--stdin"]).command();
    let mut push = push.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = push.stdin.take().unwrap();
    input.write_all(format!("{one}\n\n").as_bytes()).await.unwrap();
    for _ in 0..600 {
        if cache.count("select count(*) from closures").await == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(cache.count("select count(*) from closures").await, 1, "it waited for the end");
    input.write_all(format!("{two}\n{one}").as_bytes()).await.unwrap();
    drop(input);
    let outcome = push.wait_with_output().await.unwrap();
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    assert_eq!(cache.count("select count(*) from closures").await, 2);
    let nothing = cache.niks3(&["push", "--stdin"]).run().await.succeeded();
    assert_eq!(nothing, "");
    assert_eq!(Niks3::new(&["push", "--stdin", "x"]).run().await.code, Some(2));
}

#[tokio::test]
async fn colours_are_for_terminals_that_want_them() {
    let niks3 = env!("CARGO_BIN_EXE_niks3");
    let failing = format!("script -qec '{niks3} push --server-url http://127.0.0.1:1 /nowhere' /dev/null");
    let within = |term: &str, no_color: &str| {
        let run = Niks3::new(&[]).within(&["sh", "-c", &failing]);
        run.env("TERM", term).env("NO_COLOR", no_color).run()
    };
    let colored = within("xterm", "").await.stdout;
    assert!(colored.starts_with("\u{1b}[1;31merror:\u{1b}[0m /nowhere cannot be read"), "{colored:?}");
    for (term, no_color) in [("xterm", "1"), ("dumb", "")] {
        let plain = within(term, no_color).await.stdout;
        assert!(plain.starts_with("error: /nowhere cannot be read"), "{plain:?}");
    }
    let debug = Niks3::new(&["whoami", "--debug", "--server-url", "http://127.0.0.1:1"]).run().await;
    assert!(debug.stderr.contains("trying again") && !debug.stderr.contains('\u{1b}'), "{}", debug.stderr);
}

#[tokio::test]
async fn completions_and_manual_pages() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = Niks3::new(&["completions", shell]).run().await.data();
        assert!(script.contains("keep-going"), "{shell}: {script}");
        if shell == "bash" {
            let file = folder.path().join("completions");
            std::fs::write(&file, script).unwrap();
            assert!(std::process::Command::new("bash").arg("-n").arg(file).status().unwrap().success());
        }
    }
    let page = Niks3::new(&["man"]).run().await.data();
    assert!(page.contains(".TH niks3 1"), "{page}");
    let pages = folder.path().join("man1");
    Niks3::new(&["man", "--folder", pages.to_str().unwrap()]).run().await.succeeded();
    let push = std::fs::read_to_string(pages.join("niks3-push.1")).unwrap();
    assert!(push.contains("keep\\-going") && push.contains("Examples:"), "{push}");
    insta::assert_snapshot!(Niks3::new(&["man", "--folder", "/dev/null/x"]).run().await.failed(1), @"error: /dev/null/x cannot be written: Not a directory (os error 20)");
}

#[tokio::test]
async fn a_reader_who_leaves_is_no_failure() {
    let niks3 = env!("CARGO_BIN_EXE_niks3");
    let pipe = format!("set -o pipefail; {niks3} completions zsh | head -c 1");
    let run = Niks3::new(&[]).within(&["bash", "-c", &pipe]).run().await;
    assert_eq!((run.code, run.stdout.len(), run.stderr.as_str()), (Some(0), 1, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_leaves_stops_no_push() {
    let cache = Cache::start().await;
    let root = cache.store.closure();
    let pipe = "set -o pipefail; exec 3>&2; \"$0\" \"$@\" 2>&3 | true";
    let push = cache.niks3(&["push", "--json", root.as_str()]).within(&["bash", "-c", pipe]);
    insta::assert_snapshot!(push.run().await.succeeded(), @r"
    3 paths: 0 cached, 3 to upload (SIZE)
    Pushed 3 paths to SERVER: SIZE sent in TIME
    ");
    assert_eq!(cache.count("select count(*) from closures").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_shown_how_far_it_is_and_how_long_it_takes() {
    let cache = Cache::start().await;
    let root = cache.store.closure();
    let push = format!("script -qec '{} push {root}' /dev/null", env!("CARGO_BIN_EXE_niks3"));
    let run = cache.niks3(&[]).env("TERM", "xterm").within(&["sh", "-c", &push]).run().await;
    let shown = run.data();
    assert!(shown.contains("/s, ") && shown.contains(" left"), "{shown:?}");
    assert!(shown.contains("Pushed 3 paths"), "{shown:?}");
}
