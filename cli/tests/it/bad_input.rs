//! What cannot work: one clear line each, and the exit code that says whose fault it is.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::Cache;
use crate::support::program::Niks3;
use crate::support::script::Script;

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_are_none() {
    let cache = Cache::start().await;
    let missing = format!("{}/00000000000000000000000000000000-missing", cache.store.directory());
    let run = async |path: &str, code| cache.niks3(&["push", path]).run().await.failed(code);
    insta::assert_snapshot!(run(&missing, 1).await, @"error: /nix/store/00000000000000000000000000000000-missing cannot be read: No such file or directory (os error 2)");
    insta::assert_snapshot!(run("/nowhere/at/all", 1).await, @"error: /nowhere/at/all cannot be read: No such file or directory (os error 2)");
    insta::assert_snapshot!(run("/etc/passwd", 2).await, @"error: /etc/passwd is not in a Nix store");

    let folder = cache.folder.path();
    for (from, to) in [("one", "two"), ("two", "one")] {
        std::os::unix::fs::symlink(folder.join(to), folder.join(from)).unwrap();
    }
    insta::assert_snapshot!(run(folder.join("one").to_str().unwrap(), 1).await, @"error: FOLDER/one cannot be read: more than 40 symlinks lead on, or they lead back to themselves");
    let push = cache.niks3(&["push", "--keep-going", "--json"]);
    let outcome = push.within(&["sh", "-c", "exec \"$0\" \"$@\" \"$(printf '/nowhere/\\377')\""]).run().await;
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("\"path\":\"/nowhere/\u{fffd}\""), "{}", outcome.stdout);

    // There, and in the store's directory, but Nix knows nothing of it.
    let stray = format!("{}/11111111111111111111111111111111-stray", cache.store.directory());
    std::fs::create_dir_all(cache.store.directory()).unwrap();
    std::fs::write(&stray, "x").unwrap();
    insta::assert_snapshot!(run(&stray, 1).await, @"error: nix does not know all of the closure: path '/nix/store/HASH-stray' is not valid");
    cache.assert_nothing_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_of_another_store_directory_is_refused() {
    let cache = Cache::with(|parts, _| parts.settings.store_dir = "/other/store".to_owned()).await;
    let path = cache.store.add("tree", &[("x", b"x")]);
    let said = cache.niks3(&["push", path.as_str()]).run().await.failed(1);
    insta::assert_snapshot!(said, @"error: /nix/store/HASH-tree is not in /other/store, this cache's store directory; nothing was sent");
    cache.assert_nothing_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_nix() {
    let cache = Cache::start().await;
    let path = cache.store.add("tree", &[("x", b"x")]);
    let said = cache.niks3(&["push", path.as_str()]).env("PATH", "/nonexistent").run().await.failed(1);
    insta::assert_snapshot!(said, @"error: the program nix cannot be started: No such file or directory (os error 2)");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage() {
    let cache = Cache::start().await;
    let run = async |arguments: &[&str]| cache.niks3(arguments).run().await.failed(2);
    let (one, two) = (cache.store.add("one", &[("x", b"1")]), cache.store.add("two", &[("x", b"2")]));
    insta::assert_snapshot!(run(&["push", "--pin", "a b", one.as_str()]).await, @r#"error: "a b" is not a pin name: 1 to 256 of A-Z a-z 0-9 . _ -"#);
    insta::assert_snapshot!(run(&["push", "--pin", "..", one.as_str()]).await, @r#"error: ".." is not a pin name: 1 to 256 of A-Z a-z 0-9 . _ -"#);
    insta::assert_snapshot!(run(&["push", "--pin", "a", one.as_str(), two.as_str()]).await, @"error: --pin keeps one closure, but 2 paths were given");
    insta::assert_snapshot!(run(&["push", one.as_str(), "--ca-cert", "/nowhere"]).await, @"error: the CA certificate /nowhere cannot be read: No such file or directory (os error 2)");
    insta::assert_snapshot!(run(&["push", one.as_str(), "--ca-cert", "/etc/passwd"]).await, @"error: the CA certificate /etc/passwd is not PEM");
    insta::assert_snapshot!(run(&["push", one.as_str(), "--client-cert", "/etc/passwd"]).await, @"error: a client certificate and its key go together; only one of them was given");
    cache.assert_nothing_committed().await;
    insta::assert_snapshot!(cache.niks3(&["push"]).run().await.stderr_of(2), @r"
    error: the following required arguments were not provided:
      <PATH>...

    Usage: niks3 push [OPTIONS] <PATH>...
           niks3 push [OPTIONS] --stdin

    For more information, try '--help'.
    ");
    for arguments in [
        &["push"][..],
        &["push", ""],
        &["gc", "--older-than=5"],
        &["gc", "--older-than=-1h"],
        &["push", "--compression-level=0", "x"],
        &["push", "--max-concurrent-uploads=0", "x"],
        &["pins"],
        &["pins", "list", "--json", "--names-only"],
        &["unknown"],
        &[],
    ] {
        let outcome = Niks3::new(arguments).run().await;
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(
            outcome.stderr.contains("Usage: ") || outcome.stderr.contains("--help"),
            "{}",
            outcome.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_none() {
    let cache = Cache::start().await;
    let path = cache.store.add("tree", &[("x", b"x")]);
    let run = async |url: &str, code| {
        let run = cache.niks3(&["push", path.as_str()]).env("NIKS3_SERVER_URL", url);
        match url.strip_prefix("http://") {
            Some(host) => run.hide(host, "OTHER"),
            None => run,
        }
        .run()
        .await
        .failed(code)
    };
    insta::assert_snapshot!(run("", 2).await, @r"
    error: no server is named
    hint: give --server or --server-url, set NIKS3_SERVER_URL, or set `default` in $XDG_CONFIG_HOME/niks3/config.toml
    ");
    insta::assert_snapshot!(run("ftp://example.org", 2).await, @r#"error: "ftp://example.org" is not the URL of a server"#);
    insta::assert_snapshot!(run("not a url", 2).await, @r#"error: "not a url" is not the URL of a server"#);
    insta::assert_snapshot!(run("https://user:secret@127.0.0.1:1:1", 2).await, @r#"error: "127.0.0.1:1:1" is not the URL of a server"#);

    let page = "content-type: text/html\r\n";
    let site = Script::start(move |_| (404, page, "<html>Not found</html>".to_owned())).await;
    insta::assert_snapshot!(run(&site.url, 2).await, @r"
    error: OTHER does not answer as a niks3 server does: it sent a web page with status 404 Not Found
    hint: --server-url is where paths are pushed to; Nix may read them from elsewhere
    ");
    assert_eq!(site.lines().len(), 1, "it was asked again");
    let python = Script::start(move |_| (501, page, "<html>Unsupported method</html>".to_owned())).await;
    insta::assert_snapshot!(run(&python.url, 2).await, @r"
    error: OTHER does not answer as a niks3 server does: it sent a web page with status 501 Not Implemented
    hint: --server-url is where paths are pushed to; Nix may read them from elsewhere
    ");
    assert_eq!(python.lines().len(), 1, "it was asked again");
    let bare = Script::start(|_| (404, "", String::new())).await;
    insta::assert_snapshot!(run(&bare.url, 2).await, @r"
    error: OTHER does not answer as a niks3 server does: /api/cache-config gives 404 Not Found
    hint: --server-url is where paths are pushed to; Nix may read them from elsewhere
    ");
    let all =
        Script::start(|_| (200, "content-type: text/html\r\n", "<html>Welcome</html>".to_owned())).await;
    insta::assert_snapshot!(run(&all.url, 2).await, @r"
    error: OTHER does not answer as a niks3 server does: expected value at line 1 column 1
    hint: --server-url is where paths are pushed to; Nix may read them from elsewhere
    ");
    let s3 = "content-type: application/xml\r\n";
    let bucket =
        Script::start(move |_| (403, s3, "<Error><Code>AccessDenied</Code></Error>".to_owned())).await;
    insta::assert_snapshot!(run(&bucket.url, 2).await, @r"
    error: OTHER does not answer as a niks3 server does: it sent a web page with status 403 Forbidden
    hint: --server-url is where paths are pushed to; Nix may read them from elsewhere
    ");
    let moved = Script::start(|_| (301, "location: https://cache.example.org/\r\n", String::new())).await;
    insta::assert_snapshot!(run(&moved.url, 2).await, @r"
    error: OTHER does not answer as a niks3 server does: it redirects to https://cache.example.org/
    hint: --server-url is where paths are pushed to; Nix may read them from elsewhere
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_named() {
    let cache = Cache::start().await;
    let path = cache.store.add("tree", &[("bin/run", b"x"), ("pipe", b"x")]);
    let pipe = format!("{path}/pipe");
    let change = format!("chmod u+w {path} && rm -f {pipe} && mkfifo {pipe}");
    assert!(std::process::Command::new("sh").args(["-c", &change]).status().unwrap().success());
    insta::assert_snapshot!(cache.niks3(&["push", path.as_str()]).run().await.failed(1), @r"
    1 path: 0 cached, 1 to upload (SIZE)
    error: /nix/store/HASH-tree could not be read; it was not pushed: /nix/store/HASH-tree/pipe: is neither file, directory nor symlink
    ");
    cache.assert_nothing_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_be_read() {
    let cache = Cache::start().await;
    let path = cache.store.add("tree", &[("secret", b"x")]);
    let file = format!("{path}/secret");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    let mut push = cache.niks3(&["push", path.as_str()]);
    if std::fs::read(&file).is_ok() {
        // Root reads everything, until that right is taken from it.
        push = push.within(&["setpriv", "--bounding-set=-dac_override,-dac_read_search"]);
    }
    insta::assert_snapshot!(push.run().await.failed(1), @r"
    1 path: 0 cached, 1 to upload (SIZE)
    error: /nix/store/HASH-tree could not be read; it was not pushed: /nix/store/HASH-tree/secret: Permission denied (os error 13)
    ");
    cache.assert_nothing_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_knows() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("localhost:{}", listener.local_addr().unwrap().port());
    let count = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let seen = std::sync::Arc::clone(&count);
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            drop(acceptor.accept(stream).await);
        }
    });
    let url = format!("https://{host}");
    let said = Niks3::new(&["whoami", "--server-url", &url]).hide(&host, "OTHER").run().await.failed(1);
    insta::assert_snapshot!(said, @r"
    error: OTHER cannot be reached: invalid peer certificate: UnknownIssuer
    hint: --ca-cert names certificates to trust beside the system's
    ");
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 1, "it was asked again");
    // One that is named is taken; what fails then is that nobody answers.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, made.cert.pem()).unwrap();
    let run = Niks3::new(&["whoami", "--server-url", &url, "--ca-cert", file.to_str().unwrap()]);
    let said = run.run().await.failed(1);
    assert!(!said.contains("certificate"), "{said}");
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_trouble_is_asked_again() {
    let page = "content-type: text/html\r\nretry-after: 0\r\n";
    let count = std::sync::atomic::AtomicU32::new(0);
    let gateway = Script::start(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => (502, page, "<html>Bad gateway</html>".to_owned()),
        1 => (503, page, String::new()),
        2 => (429, page, String::new()),
        _ => (200, "", "[]".to_owned()),
    })
    .await;
    let data = Niks3::new(&["pins", "list", "--json", "--server-url", &gateway.url]).run().await.data();
    assert_eq!(data, "[]\n");
    assert_eq!(gateway.lines(), ["GET /api/pins"; 4]);

    let never = Script::start(move |_| (503, page, "<html>Sorry</html>".to_owned())).await;
    let run = Niks3::new(&["pins", "list", "--server-url", &never.url]);
    let said = run.hide(never.url.trim_start_matches("http://"), "OTHER").run().await.failed(1);
    insta::assert_snapshot!(said, @"error: no reason was given (OTHER answered 503 Service Unavailable)");
    assert_eq!(never.lines().len(), 7);
}
