//! A private cache: Nix itself reads it, with the token as the password of its netrc file.

use std::os::unix::fs::PermissionsExt as _;

use niks3_protocol::server_config::ReadMode;

use crate::support::{ADMIN, Cache};

#[tokio::test(flavor = "multi_thread")]
async fn nix_reads_a_private_cache_by_what_use_wrote() {
    let cache = Cache::with(|parts, _| {
        parts.settings.private_reads = true;
        parts.settings.read_mode = ReadMode::Proxy;
    })
    .await;
    let path = cache.store.add("secret", &[("text", b"for readers alone")]);
    cache.niks3(&["push", path.as_str()]).run().await.succeeded();
    let (netrc, conf) = (cache.folder.path().join("etc/netrc"), cache.folder.path().join("etc/nix.conf"));
    let (netrc, conf) = (netrc.to_str().unwrap(), conf.to_str().unwrap());
    let said = cache.niks3(&["use", "--file", conf]).run().await.succeeded();
    assert!(said.starts_with("warning: readers of this cache need a token: --netrc FILE"), "{said}");
    std::fs::write(netrc, "machine other.example.org login a password b\n").unwrap();
    insta::assert_snapshot!(cache.niks3(&["use", "--file", conf, "--netrc", netrc]).run().await.succeeded(), @r"
    The token is in FOLDER/etc/netrc
    Added to FOLDER/etc/nix.conf:
    netrc-file = FOLDER/etc/netrc
    ");
    let text = std::fs::read_to_string(netrc).unwrap();
    let ours = format!("machine 127.0.0.1 login niks3 password {ADMIN}\n");
    assert_eq!(text, format!("{ours}machine other.example.org login a password b\n"));
    assert_eq!(std::fs::metadata(netrc).unwrap().permissions().mode() & 0o777, 0o600);
    cache.store.configure(&std::fs::read_to_string(conf).unwrap());
    let copy = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &path).unwrap();
    cache.store.assert_equal(&path, &copy);

    let run = cache.niks3(&["use", "--netrc", netrc]).without("NIKS3_AUTH_TOKEN_FILE");
    let said = run.env("XDG_CONFIG_HOME", "/nonexistent").run().await.failed(2);
    insta::assert_snapshot!(said, @"error: there is no token to keep: `niks3 login` first, or name one by --auth-token-file");
    assert_eq!(std::fs::read_to_string(netrc).unwrap(), text);
}

#[tokio::test(flavor = "multi_thread")]
async fn nix_reads_a_private_cache_with_a_netrc_file() {
    for mode in [ReadMode::Proxy, ReadMode::Redirect] {
        let cache = Cache::with(|parts, _| {
            parts.settings.private_reads = true;
            parts.settings.read_mode = mode;
            // curl knows netrc entries by host alone: what is meant for the cache is not to go to S3 too.
            let s3 = parts.bucket.public_endpoint.take().unwrap();
            parts.bucket.public_endpoint = Some(s3.replace("127.0.0.1", "localhost"));
        })
        .await;
        let path = cache.store.add("secret", &[("text", b"for readers alone")]);
        cache.niks3(&["push", path.as_str()]).run().await.succeeded();
        let key = cache.public_key.to_string();
        let refused = cache.store.copy_from(&cache.url, &key, &path).unwrap_err();
        assert!(refused.contains("does not appear to be a binary cache"), "{mode:?}: {refused}");

        let netrc = cache.folder.path().join("netrc");
        std::fs::write(&netrc, format!("machine 127.0.0.1 login nix password {ADMIN}\n")).unwrap();
        cache.store.configure(&format!("netrc-file = {}", netrc.display()));
        let copy = cache.store.copy_from(&cache.url, &key, &path).unwrap();
        cache.store.assert_equal(&path, &copy);
    }
}
