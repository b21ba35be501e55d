//! A bucket that is told to encrypt what is written: the program sends along what the server says.

use std::collections::BTreeMap;
use std::time::Duration;

use niks3_server::bucket::{Encryption, StaticCredentials};

use crate::support::Cache;
use crate::support::minio::{KMS_KEY, Minio, ROOT, ROOT_SECRET};
use crate::support::nix::noise;

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_push_sends_is_encrypted() {
    let folder = tempfile::tempdir().unwrap();
    let minio = Minio::run(folder.path(), &[]).await;
    for bound in [false, true] {
        let endpoint = minio.url.clone();
        let cache = Cache::with(|parts, _| {
            (parts.bucket.endpoint, parts.bucket.public_endpoint) = (Some(endpoint), None);
            parts.bucket.credentials =
                Some(StaticCredentials { access_key: ROOT.to_owned(), secret_key: ROOT_SECRET.to_owned() });
            parts.bucket.encryption = Some(Encryption::Kms(KMS_KEY.to_owned()));
            parts.settings.bound = bound;
        })
        .await;
        let large = cache.store.add("large", &[("x", &noise(12_000_000))]);
        let root = cache.store.build("root", &format!("echo {large} > $out; echo of the log"), &[&large]);
        cache.niks3(&["push", root.as_str()]).run().await.succeeded();
        let copy = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &large).unwrap();
        cache.store.assert_equal(&large, &copy);
        let keys: Vec<String> =
            sqlx::query_scalar("select key from objects where live").fetch_all(&cache.app.db).await.unwrap();
        let presigner = cache.app.bucket.presigner(Duration::from_mins(1)).await.unwrap();
        let http = reqwest::Client::builder().timeout(Duration::from_mins(1)).build().unwrap();
        let mut told = BTreeMap::new();
        for key in &keys {
            let head = http.head(presigner.read("HEAD", key)).send().await.unwrap();
            let said = head.headers().get("x-amz-server-side-encryption");
            told.insert(key, said.map(|said| said.to_str().unwrap().to_owned()));
        }
        assert!(keys.len() >= 7, "two narinfos, NARs and listings, and a log: {told:?}");
        assert!(told.values().all(|said| said.as_deref() == Some("aws:kms")), "bound: {bound}: {told:?}");
    }
}
