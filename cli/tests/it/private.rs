//! A private cache: Nix itself reads it, with the token as the password of its netrc file.

use niks3_protocol::server_config::ReadMode;

use crate::support::{ADMIN, Cache};

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
