//! Several servers, by name.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::support::program::Niks3;
use crate::support::{ADMIN, Cache};

fn niks3(cache: &Cache, arguments: &[&str]) -> Niks3 {
    cache
        .niks3(arguments)
        .without("NIKS3_AUTH_TOKEN_FILE")
        .without("NIKS3_SERVER_URL")
        .env("XDG_CONFIG_HOME", cache.folder.path().join("home"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_has_a_name_and_a_token() {
    let one = Cache::start().await;
    let store = one.store.directory().to_owned();
    let two = Cache::with(|parts, _| parts.settings.store_dir = store).await;
    let home = one.folder.path().join("home/niks3");
    let login = |arguments: &[&str]| {
        let piped = format!("echo {ADMIN} | \"$0\" \"$@\"");
        niks3(&one, &[&["login"], arguments].concat())
            .within(&["sh", "-c", &piped])
            .env("XDG_CONFIG_HOME", one.folder.path().join("home"))
    };
    login(&["--name", "one", "--server-url", &one.url]).run().await.succeeded();
    login(&["--name", "two", "--server", &two.url]).run().await.succeeded();
    login(&["--name", "two"]).run().await.succeeded();
    let file = home.join("config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (first, second) = (&one.url, &two.url);
    assert_eq!(text, format!("[servers.one]\nurl = \"{first}\"\n\n[servers.two]\nurl = \"{second}\"\n"));
    assert_eq!(std::fs::metadata(home.join("tokens/two")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!home.join("auth-token").exists(), "the token of one server is for that server alone");

    // A name is a server, no name is the default, and what is given counts more.
    let path = one.store.add("tree", &[("x", b"x")]);
    niks3(&one, &["push", "--server", "two", path.as_str()]).run().await.succeeded();
    assert_eq!(two.count("select count(*) from closures").await, 1);
    one.assert_nothing_committed().await;
    std::fs::write(&file, format!("# mine\ndefault = \"one\"\n\n{text}")).unwrap();
    niks3(&one, &["push", path.as_str()]).run().await.succeeded();
    assert_eq!(one.count("select count(*) from closures").await, 1);
    let other = niks3(&one, &["whoami", "--server-url", "http://localhost:1"]).run().await;
    assert!(other.stderr.contains("localhost:1 cannot be reached"), "{}", other.stderr);
    let other = niks3(&one, &["whoami"]).env("NIKS3_AUTH_TOKEN", "x".repeat(40)).run().await;
    assert!(other.stderr.contains("not one of this cache's tokens"), "{}", other.stderr);

    // An address is not changed behind anybody's back.
    let token_of_one = || std::fs::metadata(home.join("tokens/one")).unwrap().ino();
    let before = token_of_one();
    let taken = login(&["--name", "one", "--server-url", &two.url]).run().await;
    assert_eq!(taken.code, Some(2), "{}", taken.stderr);
    assert!(taken.stderr.contains("; change it there, or take another name"), "{}", taken.stderr);
    assert_eq!(token_of_one(), before, "the token of a server was replaced by one for another");
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("# mine\ndefault"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_names_and_the_file() {
    let cache = Cache::start().await;
    let home = cache.folder.path().join("home/niks3");
    std::fs::create_dir_all(&home).unwrap();
    let write = |text: &str| std::fs::write(home.join("config.toml"), text).unwrap();
    let run = async |arguments: &[&str]| niks3(&cache, arguments).run().await.failed(2);
    insta::assert_snapshot!(run(&["whoami"]).await, @r"
    error: no server is named
    hint: give --server or --server-url, set NIKS3_SERVER_URL, or set `default` in $XDG_CONFIG_HOME/niks3/config.toml
    ");
    insta::assert_snapshot!(run(&["whoami", "--server", "work"]).await, @r#"error: "work" is no server that FOLDER/home/niks3/config.toml names; it names none"#);
    write(
        "default = \"work\"\n[servers.home]\nurl = \"http://localhost:1\"\n[servers.lab]\nurl = \"http://localhost:2\"\n",
    );
    insta::assert_snapshot!(run(&["whoami"]).await, @r#"error: "work" is no server that FOLDER/home/niks3/config.toml names; it names home, lab"#);
    write("[servers.home]\nurl = \"http://localhost:1\"\nuser = 5\n");
    insta::assert_snapshot!(run(&["pins", "list", "--server", "home"]).await, @"error: FOLDER/home/niks3/config.toml, line 3: unknown field `user`, expected one of `url`, `auth-token-file`, `auth-token-command`, `ca-cert`, `client-cert`, `client-key`");
    write("[servers.home\n");
    insta::assert_snapshot!(run(&["pins", "list"]).await, @"error: FOLDER/home/niks3/config.toml, line 1: unclosed table, expected `]`");
    insta::assert_snapshot!(run(&["login", "--name", "../x", "--server", "http://localhost:1"]).await, @r#"error: "../x" cannot be the name of a server: 1 to 64 of A-Z a-z 0-9 _ -"#);
}

/// No server is what a doctor says alone where none is named: of all else that keeps a client from being made it says
/// what to correct.
#[tokio::test(flavor = "multi_thread")]
async fn a_doctor_tells_a_wrong_option_from_a_missing_server() {
    let cache = Cache::start().await;
    for (option, problem) in [
        (["--server-url", "nowhere"], "\"nowhere\" is not the URL of a server"),
        (
            ["--ca-cert", "/nowhere"],
            "the CA certificate /nowhere cannot be read: No such file or directory (os error 2)",
        ),
    ] {
        let said = cache.niks3(&[&["doctor"][..], &option].concat()).run().await.stdout;
        let line = format!(
            "fail  server    {problem}\n                → correct the option, the variable or the line of config.toml that says so\n"
        );
        assert!(said.contains(&line), "{said}");
    }
}

/// What lies in the folder that is worked on is somebody else's, and may name a command.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_home_is_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    let text = "default = \"bad\"\n[servers.bad]\nurl = \"http://127.0.0.1:1\"\nauth-token-command = \"touch ran\"\n";
    for below in ["niks3", "home/niks3", ".config/niks3"] {
        std::fs::create_dir_all(folder.path().join(below)).unwrap();
        std::fs::write(folder.path().join(below).join("config.toml"), text).unwrap();
    }
    let run = format!("cd {} && exec \"$0\" \"$@\"", folder.path().display());
    for (config, home) in [("", "/nonexistent"), ("home", "/nonexistent"), (".", ""), ("", ".")] {
        let who = Niks3::new(&["whoami"]).env("XDG_CONFIG_HOME", config).env("HOME", home);
        let said = who.within(&["sh", "-c", &run]).run().await.failed(2);
        assert!(said.starts_with("error: no server is named\n"), "{config:?} {home:?}: {said}");
    }
    assert!(!folder.path().join("ran").exists(), "its command was run");
}
