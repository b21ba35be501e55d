//! What `--help` says, which people read before anything else.

use crate::support::program::Niks3;

#[tokio::test]
async fn help_texts() {
    for (name, command) in [
        ("niks3", &[][..]),
        ("push", &["push"]),
        ("hook", &["hook"]),
        ("hook-send", &["hook", "send"]),
        ("hook-serve", &["hook", "serve"]),
        ("pins", &["pins"]),
        ("pins-create", &["pins", "create"]),
        ("pins-list", &["pins", "list"]),
        ("pins-delete", &["pins", "delete"]),
        ("gc", &["gc"]),
        ("gc-list", &["gc", "list"]),
        ("gc-show", &["gc", "show"]),
        ("gc-abort", &["gc", "abort"]),
        ("fsck", &["fsck"]),
        ("fsck-show", &["fsck", "show"]),
        ("fsck-abort", &["fsck", "abort"]),
        ("why", &["why"]),
        ("du", &["du"]),
        ("delete", &["delete"]),
        ("whoami", &["whoami"]),
        ("completions", &["completions"]),
        ("man", &["man"]),
        ("doctor", &["doctor"]),
        ("login", &["login"]),
        ("use", &["use"]),
    ] {
        let text = Niks3::new(&[command, &["--help"]].concat()).run().await.data();
        insta::assert_snapshot!(format!("help-{name}"), text);
    }
}

#[tokio::test]
async fn the_version_is_the_crates() {
    let text = Niks3::new(&["--version"]).run().await.data();
    assert_eq!(text, format!("niks3 {}\n", env!("CARGO_PKG_VERSION")));
}
