//! `niks3 login` and `niks3 use`

use std::os::unix::fs::PermissionsExt as _;

use crate::support::program::Niks3;
use crate::support::script::Script;
use crate::support::{ADMIN, Cache};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_server_takes_is_kept() {
    let cache = Cache::start().await;
    let home = cache.folder.path().join("home");
    let login = |text: &str| {
        let run = cache.niks3(&["login"]).without("NIKS3_AUTH_TOKEN_FILE").env("XDG_CONFIG_HOME", &home);
        let piped = format!("printf '{text}' | \"$0\" \"$@\"");
        run.within(&["sh", "-c", &piped])
            .hide(cache.folder.path().to_str().unwrap(), "FOLDER")
            .hide(cache.url.trim_start_matches("http://"), "SERVER")
    };
    let file = home.join("niks3/auth-token");
    insta::assert_snapshot!(login("").run().await.failed(2), @"error: no token: give it on standard input");
    insta::assert_snapshot!(login("unknown-token-0123456789abcdef0123456789").run().await.failed(2), @r"
    error: the token is not valid here: it is not one of this cache's tokens (SERVER answered 401 Unauthorized)
    hint: is the token file the one of this cache, and made for its audience?
    ");
    assert!(!file.exists(), "a token that is refused is kept");
    insta::assert_snapshot!(login(&format!("{ADMIN}\\n")).run().await.succeeded(), @"You are token:default at SERVER; the token is in FOLDER/home/niks3/auth-token");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{ADMIN}\n"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let who = cache.niks3(&["whoami"]).without("NIKS3_AUTH_TOKEN_FILE").env("XDG_CONFIG_HOME", &home);
    assert!(who.run().await.data().starts_with("token:default"));
    // A wrong one later leaves the right one alone.
    login("unknown-token-0123456789abcdef0123456789").run().await.failed(2);
    assert_eq!(std::fs::read_dir(home.join("niks3")).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{ADMIN}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nix_reads_by_the_lines_of_use() {
    let cache = Cache::start().await;
    let path = cache.store.add("tree", &[("x", b"x")]);
    cache.niks3(&["push", path.as_str()]).run().await.succeeded();
    let printed = cache.niks3(&["use"]).run().await.data();
    let file = cache.folder.path().join("etc/nix.conf");
    let add = || cache.niks3(&["use", "--file", file.to_str().unwrap()]);
    add().run().await.succeeded();
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        printed.replace("SERVER", cache.url.trim_start_matches("http://"))
    );
    insta::assert_snapshot!(add().run().await.succeeded(), @"FOLDER/etc/nix.conf has all of it already");

    // Nix itself takes the path by them.
    let copy = cache.folder.path().join("copy");
    let config = ["--extra-experimental-features", "nix-command", "--store", copy.to_str().unwrap()];
    let take = ["build", "--no-link", path.as_str(), "--option", "connect-timeout", "5"];
    let lines = std::fs::read_to_string(&file).unwrap();
    let nix = std::process::Command::new("nix")
        .args([&take[..1], &config[..], &take[1..]].concat())
        .envs(cache.store.variables())
        .env("NIX_CONFIG", format!("build-users-group =\nsandbox = false\nsubstituters =\n{lines}"))
        .output()
        .unwrap();
    assert!(nix.status.success(), "{}", String::from_utf8_lossy(&nix.stderr));
    cache.store.assert_equal(&path, &copy);

    // What is there stays, and is not said twice.
    let known = "# mine\nsubstituters = https://cache.nixos.org http://SERVER # too\nmax-jobs = 3";
    let known = known.replace("SERVER", cache.url.trim_start_matches("http://"));
    std::fs::write(&file, &known).unwrap();
    add().run().await.succeeded();
    let key = cache.public_key.to_string();
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        format!("{known}\nextra-trusted-public-keys = {key}\n")
    );

    let unsigned =
        Script::start(|_| (200, "", r#"{"substituter_url":"http://x","public_keys":[]}"#.to_owned())).await;
    let run = Niks3::new(&["use", "--server-url", &unsigned.url]);
    let said = run.hide(unsigned.url.trim_start_matches("http://"), "OTHER").run().await.failed(1);
    insta::assert_snapshot!(said, @"error: OTHER names no key that signs its paths, so Nix would take none of them");
}
