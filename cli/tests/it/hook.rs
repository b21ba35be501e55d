//! What Nix builds is queued by its post-build-hook and pushed while it goes on; nothing queued is lost.

mod service;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::Cache;
use crate::support::program::Niks3;
use service::Service;

async fn is_there(cache: &Cache, path: &niks3_protocol::nix::StorePath) -> bool {
    cache.get(&path.narinfo_key()).await.status().is_success()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nix_builds_is_pushed_while_it_goes_on() {
    let cache = Cache::start().await;
    let service = Service::start(&cache, &[]).await;
    service.hook_into(&cache.store);
    let first = cache.store.build("first", "echo one > $out", &[]);
    let second = cache.store.build("second", &format!("echo {first} > $out"), &[&first]);
    service
        .until("both are there", async || is_there(&cache, &first).await && is_there(&cache, &second).await)
        .await;
    service.until("the queue is empty", async || service.queued().is_empty()).await;

    let (code, said) = service.end("TERM").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Pushed 1 path to "), "{said}");
    let copy = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &second).unwrap();
    cache.store.assert_equal(&first, &copy);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_queued_is_no_garbage_and_outlives_a_kill() {
    let mut cache = Cache::start().await;
    cache.s3.down().await;
    let service = Service::start(&cache, &[]).await;
    service.hook_into(&cache.store);
    let built = cache.store.build("built", "echo it > $out", &[]);
    service.until("it is queued", async || service.queued() == [built.base_name()]).await;
    let socket = service.kill().await;
    assert!(socket.exists(), "a killed service leaves its socket");
    cache.store.ask("nix-store", &["--gc"]);
    assert!(std::fs::exists(built.as_str()).unwrap(), "Nix collected what is queued");

    cache.s3.up();
    let service = Service::start(&cache, &[]).await;
    service.until("it is there", async || is_there(&cache, &built).await).await;
    service.until("the queue is empty", async || service.queued().is_empty()).await;
    let (code, said) = service.end("INT").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 path of before to push\n"), "{said}");
    cache.store.ask("nix-store", &["--gc"]);
    assert!(!std::fs::exists(built.as_str()).unwrap(), "what is pushed is kept for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_fails_stops_no_other_and_stays() {
    let cache = Cache::start().await;
    let service = Service::start(&cache, &[]).await;
    let unknown = format!("{}/00000000000000000000000000000001-unknown", cache.store.directory());
    std::fs::create_dir_all(&unknown).unwrap();
    let gone = format!("{}/00000000000000000000000000000002-gone", cache.store.directory());
    let good = cache.store.add("good", &[("x", b"x")]);
    service.send(&format!(" {unknown}  {gone} {good}\n")).await.succeeded();
    service.until("the good one is there", async || is_there(&cache, &good).await).await;
    service
        .until("the others are left", async || {
            service.queued() == ["00000000000000000000000000000001-unknown"]
        })
        .await;

    let (code, said) = service.end("TERM").await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("warning: {gone} was deleted before it was pushed\n")), "{said}");
    assert!(said.contains(&format!("{unknown}' is not valid")), "{said}");
    let last: Vec<&str> = said.lines().rev().take(2).collect();
    assert_eq!(last[0], "hint: the next `niks3 hook serve` pushes them");
    assert!(last[1].starts_with("error: 1 path is left in the queue "), "{said}");
}

/// By hand, as docs/hook.md says: nothing is waited for any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_given_up_is_forgotten() {
    let cache = Cache::start().await;
    let service = Service::start(&cache, &["--idle-exit-timeout=2s"]).await;
    let unknown = format!("{}/00000000000000000000000000000001-unknown", cache.store.directory());
    std::fs::create_dir_all(&unknown).unwrap();
    service.send(&unknown).await.succeeded();
    service.until("it failed", async || service.said().contains("is not valid")).await;
    service.give_up();
    let (code, said) = service.ended().await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_leaves_the_rest_in_the_queue() {
    let mut cache = Cache::start().await;
    cache.s3.down().await;
    let service = Service::start(&cache, &[]).await;
    let path = cache.store.add("path", &[("x", b"x")]);
    service.send(path.as_str()).await.succeeded();
    service.signal("TERM").await;
    service
        .until("it ends", async || service.said().contains("Ending once all is pushed that is queued"))
        .await;
    let (code, said) = service.end("TERM").await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("error: 1 path is left in the queue "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_never_fails_because_nobody_takes_its_paths() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let send = || {
        Niks3::new(&["hook", "send", "--socket", socket.to_str().unwrap()])
            .hide(&folder.path().display().to_string(), "FOLDER")
    };
    let said = send().env("OUT_PATHS", "/nix/store/x").run().await.succeeded();
    insta::assert_snapshot!(said, @"warning: what was built is not pushed: FOLDER/socket: No such file or directory (os error 2)");
    assert_eq!(send().env("OUT_PATHS", " ").run().await.succeeded(), "");

    // One that never answers.
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let said = send().env("OUT_PATHS", "/nix/store/x").run().await.succeeded();
    insta::assert_snapshot!(said, @"warning: what was built is not pushed: FOLDER/socket: no answer within 5s");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_speaks_as_that_of_niks3_1_7() {
    let cache = Cache::start().await;
    let service = Service::start(&cache, &[]).await;
    let path = cache.store.add("path", &[("x", b"x")]);
    let long = format!("{{\"paths\":[\"{}\"]}}", "x".repeat(1 << 20));
    for (request, answer) in [
        (format!("{{\"paths\":[\"{path}\"]}}\n"), "{\"status\":\"ok\"}\n"),
        ("{\"paths\":[]}\n".to_owned(), "{\"status\":\"ok\"}\n"),
        (
            format!("{{\"paths\":[\"{path}\",\"/etc/passwd\"]}}\n"),
            "{\"status\":\"error\",\"message\":\"\\\"/etc/passwd\\\" does not begin with a 32-digit hash and a dash; nothing was queued\"}\n",
        ),
        (
            "paths\n".to_owned(),
            "{\"status\":\"error\",\"message\":\"the request is no {\\\"paths\\\": […]}: expected value at line 1 column 1; nothing was queued\"}\n",
        ),
        (
            long,
            "{\"status\":\"error\",\"message\":\"the request is longer than 1048576 bytes; nothing was queued\"}\n",
        ),
    ] {
        let mut stream = UnixStream::connect(&service.socket).await.unwrap();
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answered = String::new();
        stream.read_to_string(&mut answered).await.unwrap();
        assert_eq!(answered, answer);
    }
    service.until("it is there", async || is_there(&cache, &path).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_nothing_comes_and_takes_systemds_socket() {
    let cache = Cache::start().await;
    let service = Service::start(&cache, &[]).await;
    let said = Service::command(&cache, &[]).run().await.failed(2);
    insta::assert_snapshot!(said, @"error: another service answers at FOLDER/run/socket already");
    assert_eq!(service.end("TERM").await.0, Some(0));

    let service = Service::start(&cache, &["--idle-exit-timeout=1s"]).await;
    let socket = service.socket.clone();
    let path = cache.store.add("path", &[("x", b"x")]);
    service.send(path.as_str()).await.succeeded();
    let (code, said) = service.ended().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(is_there(&cache, &path).await);
    assert!(!socket.exists(), "its own socket stays");

    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let service = Service::activated(&cache, &["--idle-exit-timeout=1s"], listener);
    let other = cache.store.add("other", &[("y", b"y")]);
    service.send(other.as_str()).await.succeeded();
    let (code, said) = service.ended().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(is_there(&cache, &other).await);
    assert!(socket.exists(), "systemd's socket is gone");
}

#[tokio::test]
async fn what_cannot_be_opened_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(folder.path().join("file"), "not a folder").unwrap();
    let serve = |queue: String, socket: String| {
        Niks3::new(&["hook", "serve", "--queue", &queue, "--socket", &socket])
            .env("NIKS3_SERVER_URL", "http://127.0.0.1:1")
            .hide(&folder.path().display().to_string(), "FOLDER")
            .run()
    };
    let said = serve(at("file/queue"), at("socket")).await.failed(2);
    insta::assert_snapshot!(said, @r"
    error: the queue FOLDER/file/queue cannot be used: Not a directory (os error 20)
    hint: --queue names another folder; /nix/var/nix/gcroots is root's
    ");
    let said = serve(at("queue"), at("file")).await.failed(2);
    insta::assert_snapshot!(said, @r"
    error: the socket FOLDER/file cannot be opened: Address already in use (os error 98)
    hint: --socket names another place
    ");
}

#[tokio::test]
async fn called_as_niks3_hook_it_takes_what_that_of_1_7_took() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_niks3"), at("niks3-hook")).unwrap();
    std::fs::write(at("file"), "not a folder").unwrap();
    let flags =
        "--batch-size 10 --idle-exit-timeout 0 --max-concurrent-uploads 5 --verify-s3-integrity --debug";
    let output = tokio::process::Command::new(at("niks3-hook"))
        .args(["serve", "--db-path", &at("file/upload-queue.db"), "--socket", &at("socket")])
        .args(["--server-url", "http://127.0.0.1:1", "--auth-token", "t"])
        .args(flags.split(' '))
        .env_clear()
        .output();
    let said = String::from_utf8(output.await.unwrap().stderr).unwrap();
    assert!(said.contains(&format!("error: the queue {} cannot be used: ", at("file/queue"))), "{said}");
}
