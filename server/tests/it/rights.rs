//! Credentials that may do all but one thing in the bucket, by a policy of a real S3 server: the start says what is missing.

use niks3_server::bucket::SessionFiles;
use reqwest::StatusCode;
use serde_json::json;

use crate::session::session_with;
use crate::storage::wait_for_reason;
use crate::support::inspect::s3_at;
use crate::support::issuer::Issuer;
use crate::support::minio::{ROOT, ROOT_SECRET};
use crate::support::sts::Sts;
use crate::support::{Place, TestServer};

/// Keys in files, that may do everything but these.
async fn keys_without(place: &Place, minio: &Sts, issuer: &Issuer, denied: &[&str]) -> SessionFiles {
    let all = json!({"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]});
    let mut statements = vec![all];
    if !denied.is_empty() {
        statements.push(json!({"Effect": "Deny", "Action": denied, "Resource": ["arn:aws:s3:::*"]}));
    }
    let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    let [id, secret, token] = session_with(minio, issuer, 600, Some(&policy)).await;
    SessionFiles {
        access_key: place.write_file("access-key", &id).into(),
        secret_key: place.write_file("secret-key", &secret).into(),
        session_token: place.write_file("session-token", &token).into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_right_that_is_missing_is_named() {
    let (home, issuer) = (Place::create().await, Issuer::provider_of(|key| key.id == "rsa").await);
    let minio = Sts::start(&home, &issuer).await;
    let root = s3_at(&minio.url, ROOT, ROOT_SECRET);
    for (denied, create) in [
        (None, false),
        (Some("s3:PutObject"), false),
        (Some("s3:GetObject"), false),
        (Some("s3:ListBucket"), false),
        // Whether it is there is looked at first, by listing it.
        (Some("s3:ListBucket"), true),
        (Some("s3:DeleteObject"), false),
        (Some("s3:AbortMultipartUpload"), false),
        (Some("s3:ListMultipartUploadParts"), false),
    ] {
        let place = Place::create().await;
        root.create_bucket().bucket(place.bucket()).send().await.unwrap();
        let denied: Vec<&str> = denied.into_iter().collect();
        let files = keys_without(&place, &minio, &issuer, &denied).await;
        let endpoint = minio.url.clone();
        let server = TestServer::launch(place, move |parts| {
            parts.bucket.endpoint = Some(endpoint);
            parts.bucket.credentials = None;
            parts.bucket.session = Some(files);
            parts.bucket.create_bucket = create;
        })
        .await;
        let [right] = *denied else {
            server.wait_until_ready().await;
            continue;
        };
        let check = wait_for_reason(&server, "AccessDenied").await;
        let sentence = format!("allow these credentials {right} on the bucket and all below its prefix");
        assert!(check.message.contains(&sentence), "{right}: {check:?}");
        assert_eq!(check.message.matches("allow these credentials").count(), 1, "{check:?}");
        assert_eq!(server.get("/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE, "{right}");
    }
}
