//! `niks3 doctor`: a set-up that is good, and one for each thing that can be wrong with it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use niks3_protocol::server_config::ReadMode;

use crate::support::program::Niks3;
use crate::support::script::Script;
use crate::support::{Cache, environment};

/// Nix, set up for the cache; the version of this machine's Nix is not the test's.
fn set_up(cache: &Cache, lines: &str) {
    let (url, key) = (&cache.url, &cache.public_key);
    cache.store.configure(&format!("extra-substituters = {url}\nextra-trusted-public-keys = {key}\n{lines}"));
}

fn doctor(cache: &Cache, arguments: &[&str]) -> Niks3 {
    // The tests' NIX_CONFIG names no substituters, and would win over nix.conf.
    let config = "build-users-group =\nsandbox = false\nconnect-timeout = 2\n";
    let version = std::process::Command::new("nix").arg("--version").output().unwrap().stdout;
    let key = cache.public_key.to_string();
    cache
        .niks3(&[&["doctor"], arguments].concat())
        .env("NIX_CONFIG", config)
        .hide(String::from_utf8(version).unwrap().trim(), "nix (Nix) VERSION")
        .hide(env!("CARGO_PKG_VERSION"), "VERSION")
        .hide(&key, "KEY")
}

const COMMANDS: &str = "extra-experimental-features = nix-command";

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well() {
    let cache = Cache::start().await;
    set_up(&cache, COMMANDS);
    insta::assert_snapshot!(steady(&doctor(&cache, &[]).run().await.data()), @r"
    ok    nix       nix (Nix) VERSION
    ok    features  nix-command is on
    ok    server    SERVER is niks3-server VERSION: EXTENSIONS
    ok    clock     as the server's
    ok    token     token:default (from FOLDER/token), may: Admin
    ok    nix.conf  Nix reads from http://SERVER and trusts its key
    ok    trust     Nix trusts root to name substituters and keys
    ok    bucket    takes uploads from here
    ok    commit    /nix/store/HASH-niks3-doctor was pushed in TIME
    ok    read      http://SERVER gives it back whole, signed by test-1
    ");
    // It left a path that a collection takes, none in the local store, and no pin.
    assert_eq!(cache.count("select count(*) from closures").await, 1);
    assert_eq!(cache.count("select count(*) from pins").await, 0);
    let local = std::fs::read_dir(cache.store.directory()).unwrap();
    let left =
        local.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with("niks3-doctor"));
    assert_eq!(left.count(), 0);

    let lines = doctor(&cache, &["--json"]).run().await.data();
    let checks: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = checks.iter().map(|check| check["check"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["nix", "features", "server", "clock", "token", "nix.conf", "trust", "bucket", "commit", "read"]
    );
    assert!(checks.iter().all(|check| check["status"] == "ok"), "{lines}");
    assert_eq!(cache.count("select count(*) from closures").await, 2, "each has bytes of its own");

    doctor(&cache, &["--no-push"]).run().await.data();
    assert_eq!(cache.count("select count(*) from closures").await, 2, "it pushed");
}

#[tokio::test(flavor = "multi_thread")]
async fn nix_that_is_not_set_up() {
    let cache = Cache::start().await;
    // Not a trusted user: `id` says so, for who runs the tests may be anybody.
    let programs = cache.folder.path().join("bin");
    program(&programs, "id", "echo alice");
    let path = format!("{}:{}", programs.display(), environment("PATH"));
    let run = doctor(&cache, &["--no-push"]).env("PATH", &path);
    insta::assert_snapshot!(steady(&run.run().await.data()), @r"
    ok    nix       nix (Nix) VERSION
    warn  features  nix-command is off: `nix build` and `nix copy` refuse to run
                    → add `extra-experimental-features = nix-command flakes` to /etc/nix/nix.conf
    ok    server    SERVER is niks3-server VERSION: EXTENSIONS
    ok    clock     as the server's
    ok    token     token:default (from FOLDER/token), may: Admin
    warn  nix.conf  Nix does not read from http://SERVER
                    → `niks3 use --file /etc/nix/nix.conf` adds what is missing
    warn  trust     Nix's daemon does not take substituters and keys from alice's own nix.conf
                    → keep them in /etc/nix/nix.conf, or add alice to its trusted-users
    skip  bucket    --no-push was given
    skip  commit    --no-push was given
    skip  read      --no-push was given
    ");
    set_up(&cache, &format!("{COMMANDS}\nextra-trusted-public-keys ="));
    cache.store.configure(&format!("extra-substituters = {}\n{COMMANDS}", cache.url));
    let run = doctor(&cache, &["--no-push"]).run().await.data();
    assert!(run.contains("Nix reads from http://SERVER, but trusts none of its keys"), "{run}");

    let old = "[ \"$1\" = --version ] && echo 'nix (Nix) 2.3.16'";
    program(&programs, "nix", old);
    insta::assert_snapshot!(unwell(doctor(&cache, &[]).env("PATH", &path)).await, @r"
    fail  nix       nix (Nix) 2.3.16 is too old
                    → install Nix 2.8 or newer
    skip  features  there is no Nix that can be asked
    ok    server    SERVER is niks3-server VERSION: EXTENSIONS
    ok    clock     as the server's
    ok    token     token:default (from FOLDER/token), may: Admin
    skip  nix.conf  Nix does not tell its configuration
    skip  trust     Nix does not tell its configuration
    skip  bucket    there is no Nix to add a path with
    skip  commit    there is no Nix to add a path with
    skip  read      there is no Nix to add a path with
    error: 1 check failed
    ");
    insta::assert_snapshot!(unwell(doctor(&cache, &[]).env("PATH", "/nonexistent")).await, @r"
    fail  nix       the program nix cannot be started: No such file or directory (os error 2)
                    → install Nix, or add the folder of its programs to PATH
    skip  features  there is no Nix that can be asked
    ok    server    SERVER is niks3-server VERSION: EXTENSIONS
    ok    clock     as the server's
    ok    token     token:default (from FOLDER/token), may: Admin
    skip  nix.conf  Nix does not tell its configuration
    skip  trust     Nix does not tell its configuration
    skip  bucket    there is no Nix to add a path with
    skip  commit    there is no Nix to add a path with
    skip  read      there is no Nix to add a path with
    error: 1 check failed
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_do_not_do() {
    let cache = Cache::start().await;
    set_up(&cache, COMMANDS);
    let none = doctor(&cache, &[]).without("NIKS3_AUTH_TOKEN_FILE").env("XDG_CONFIG_HOME", "/nonexistent");
    insta::assert_snapshot!(unwell(none).await, @r"
    ok    nix       nix (Nix) VERSION
    ok    features  nix-command is on
    ok    server    SERVER is niks3-server VERSION: EXTENSIONS
    ok    clock     as the server's
    fail  token     no identity: send `Authorization: Bearer TOKEN` (SERVER answered 401 Unauthorized)
                    → `niks3 login` keeps a token; CI sets NIKS3_AUTH_TOKEN_FILE or a token of its own
    ok    nix.conf  Nix reads from http://SERVER and trusts its key
    ok    trust     Nix trusts root to name substituters and keys
    skip  bucket    there is no token that may push
    skip  commit    there is no token that may push
    skip  read      there is no token that may push
    error: 1 check failed
    ");
    std::fs::write(cache.token_file(), "another-token-0123456789abcdef0123456789").unwrap();
    insta::assert_snapshot!(unwell(doctor(&cache, &[])).await, @r"
    ok    nix       nix (Nix) VERSION
    ok    features  nix-command is on
    ok    server    SERVER is niks3-server VERSION: EXTENSIONS
    ok    clock     as the server's
    fail  token     the token is not valid here: it is not one of this cache's tokens (SERVER answered 401 Unauthorized)
                    → is the token file the one of this cache, and made for its audience?
    ok    nix.conf  Nix reads from http://SERVER and trusts its key
    ok    trust     Nix trusts root to name substituters and keys
    skip  bucket    there is no token that may push
    skip  commit    there is no token that may push
    skip  read      there is no token that may push
    error: 1 check failed
    ");
    // {"exp":1}
    std::fs::write(cache.token_file(), "e30.eyJleHAiOjF9.c2ln").unwrap();
    let said = unwell(doctor(&cache, &[])).await;
    assert!(said.contains("fail  token     from FOLDER/token: it is over since "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_do_not_do() {
    let cache = Cache::start().await;
    let run = |url: &str| {
        let run = doctor(&cache, &[]).env("NIKS3_SERVER_URL", url);
        if url.is_empty() { run } else { run.hide(url.trim_start_matches("http://"), "OTHER") }
    };
    set_up(&cache, COMMANDS);
    insta::assert_snapshot!(unwell(run("")).await, @r"
    ok    nix       nix (Nix) VERSION
    ok    features  nix-command is on
    fail  server    no server is named
                    → give --server or --server-url, set NIKS3_SERVER_URL, or set `default` in $XDG_CONFIG_HOME/niks3/config.toml
    skip  clock     no server is known
    skip  token     no server is known
    skip  nix.conf  no server is known
    skip  trust     no server is known
    skip  bucket    no server is known
    skip  commit    no server is known
    skip  read      no server is known
    error: 1 check failed
    ");
    let page = Script::start(|_| (200, "content-type: text/html\r\n", "<html>".to_owned())).await;
    insta::assert_snapshot!(unwell(run(&page.url)).await, @r"
    ok    nix       nix (Nix) VERSION
    ok    features  nix-command is on
    fail  server    OTHER does not answer as a niks3 server does: expected value at line 1 column 1
                    → --server-url is where paths are pushed to; Nix may read them from elsewhere
    skip  clock     the server does not answer
    skip  token     the server does not answer
    skip  nix.conf  the server does not answer
    skip  trust     the server does not answer
    skip  bucket    the server does not answer
    skip  commit    the server does not answer
    skip  read      the server does not answer
    error: 1 check failed
    ");

    let late = Script::start(|request| match request.line.as_str() {
        "GET /health" => (200, "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "OK".to_owned()),
        line if line.starts_with("GET /api/cache-config") => {
            (200, "", r#"{"substituter_url":"http://x","public_keys":[]}"#.to_owned())
        }
        _ => (404, "", "404 page not found".to_owned()),
    })
    .await;
    let said = unwell(run(&late.url)).await;
    assert!(said.contains("fail  clock     this machine's clock is "), "{said}");
    assert!(said.contains(" ahead of the server's\n"), "{said}");
    assert!(said.contains("warn  server    OTHER speaks the plain protocol of niks3 1.7\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_reachable_from_here() {
    let cache = Cache::with(|parts, _| {
        parts.bucket.public_endpoint = Some("http://localhost:1".to_owned());
    })
    .await;
    set_up(&cache, COMMANDS);
    insta::assert_snapshot!(unwell(doctor(&cache, &[])).await, @r"
    ok    nix       nix (Nix) VERSION
    ok    features  nix-command is on
    ok    server    SERVER is niks3-server VERSION: EXTENSIONS
    ok    clock     as the server's
    ok    token     token:default (from FOLDER/token), may: Admin
    ok    nix.conf  Nix reads from http://SERVER and trusts its key
    ok    trust     Nix trusts root to name substituters and keys
    fail  bucket    /nix/store/HASH-niks3-doctor could not be uploaded: localhost:1 cannot be reached: Connection refused (os error 111)
                    → clients send to S3 themselves: it must be reachable from here, by the address that the server's --s3-public-endpoint gives
    skip  commit    nothing could be sent
    skip  read      nothing could be sent
    error: 1 check failed
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_cannot_be_read() {
    let nowhere =
        Cache::with(|parts, _| parts.settings.cache_url = "http://localhost:1/cache".to_owned()).await;
    set_up(&nowhere, COMMANDS);
    insta::assert_snapshot!(unwell(doctor(&nowhere, &[])).await, @r"
    ok    nix       nix (Nix) VERSION
    ok    features  nix-command is on
    ok    server    SERVER is niks3-server VERSION: EXTENSIONS
    ok    clock     as the server's
    ok    token     token:default (from FOLDER/token), may: Admin
    warn  nix.conf  Nix does not read from http://localhost:1/cache
                    → `niks3 use --file /etc/nix/nix.conf` adds what is missing
    ok    trust     Nix trusts root to name substituters and keys
    ok    bucket    takes uploads from here
    ok    commit    /nix/store/HASH-niks3-doctor was pushed in TIME
    fail  read      localhost:1 cannot be reached: Connection refused (os error 111)
                    → Nix reads from there: it must be reachable from here, and readable
    error: 1 check failed
    ");

    // Of a private cache, Nix needs more than its address.
    let private = Cache::with(|parts, _| {
        parts.settings.private_reads = true;
        parts.settings.read_mode = ReadMode::Proxy;
    })
    .await;
    set_up(&private, COMMANDS);
    let said = doctor(&private, &[]).run().await.data();
    assert!(said.contains("to readers with a token alone\n"), "{said}");
}

/// The same, whatever more a server can do.
fn steady(said: &str) -> String {
    let cut = |line: &str| match line.split_once("niks3-server VERSION: ") {
        Some((before, _)) => format!("{before}niks3-server VERSION: EXTENSIONS"),
        None => line.to_owned(),
    };
    said.lines().map(cut).collect::<Vec<_>>().join("\n")
}

/// What a run printed that found something wrong.
async fn unwell(run: Niks3) -> String {
    let outcome = run.run().await;
    assert_eq!(outcome.code, Some(1), "{}{}", outcome.stdout, outcome.stderr);
    steady(&format!("{}{}", outcome.stdout, outcome.stderr))
}

fn program(folder: &Path, name: &str, script: &str) {
    std::fs::create_dir_all(folder).unwrap();
    let file = folder.join(name);
    std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
}
