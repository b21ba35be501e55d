//! Keys that end, in files that somebody replaces before: what STS gave, as an operator of secrets writes it.

use std::time::{Duration, Instant};

use niks3_protocol::api::health::Dependency;
use niks3_server::bucket::SessionFiles;
use reqwest::{StatusCode, Url};
use tokio::time::sleep;

use crate::storage::wait_for_reason;
use crate::support::closure::TestPath;
use crate::support::issuer::Issuer;
use crate::support::sts::{STS, Sts, pod_token};
use crate::support::{Place, TestServer};
use crate::web_identity::signed_by;

/// Access key id, secret and token that STS gives for so many seconds.
async fn session(minio: &Sts, issuer: &Issuer, life: i64) -> [String; 3] {
    session_with(minio, issuer, life, None).await
}

/// The same, held to this policy.
pub(crate) async fn session_with(
    minio: &Sts,
    issuer: &Issuer,
    life: i64,
    policy: Option<&str>,
) -> [String; 3] {
    let token = pod_token(issuer, STS, life);
    let parameters = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", &minio.role),
        ("RoleSessionName", "test"),
        ("WebIdentityToken", &token),
    ];
    let parameters = parameters.into_iter().chain(policy.map(|policy| ("Policy", policy)));
    let url = Url::parse_with_params(&minio.url, parameters).unwrap();
    let http = reqwest::Client::builder().timeout(Duration::from_mins(1)).build().unwrap();
    let answer = http.post(url).send().await.unwrap();
    let text = answer.text().await.unwrap();
    ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(|tag| {
        let value = text.split(&format!("<{tag}>")).nth(1).unwrap_or_else(|| panic!("no {tag}: {text}"));
        value.split('<').next().unwrap().to_owned()
    })
}

fn write(place: &Place, [id, secret, token]: &[String; 3]) -> SessionFiles {
    SessionFiles {
        access_key: place.write_file("access-key", &format!("{id}\n")).into(),
        secret_key: place.write_file("secret-key", secret).into(),
        session_token: place.write_file("session-token", token).into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_end_are_taken_from_their_files_as_they_are_replaced() {
    let (place, issuer) = (Place::create().await, Issuer::provider_of(|key| key.id == "rsa").await);
    let minio = Sts::start(&place, &issuer).await;
    let files = write(&place, &["id".to_owned(), "secret-word".to_owned(), "token-word".to_owned()]);
    let (endpoint, token_file) = (minio.url.clone(), files.session_token.clone());
    let server = TestServer::launch(place.clone(), move |parts| {
        parts.bucket.endpoint = Some(endpoint);
        parts.bucket.credentials = None;
        parts.bucket.session = Some(files);
    })
    .await;
    server.wait_for_check(Dependency::Database, true).await;
    let check = server.wait_for_check(Dependency::Storage, false).await;
    assert!(!check.message.contains("-word"), "{check:?}");

    let first = session(&minio, &issuer, 30).await;
    let ends = Instant::now() + Duration::from_secs(30);
    write(&place, &first);
    let (one, two, three) =
        (TestPath::new("one", &[]), TestPath::new("two", &[]), TestPath::new("three", &[]));
    while server.get("/readyz").await.status() != StatusCode::OK {
        assert!(Instant::now() < ends, "the files should be read again");
        sleep(Duration::from_millis(200)).await;
    }
    server.push(&[&one]).await;
    assert_eq!(signed_by(&server, &two).await, first[0]);

    // Others come before those end; when they have, nothing has.
    let second = session(&minio, &issuer, 600).await;
    write(&place, &second);
    while signed_by(&server, &two).await != second[0] {
        assert!(Instant::now() < ends, "the files should be read again");
        sleep(Duration::from_millis(200)).await;
    }
    sleep(ends.saturating_duration_since(Instant::now())).await;
    server.push(&[&two]).await;

    std::fs::remove_file(&token_file).unwrap();
    // What was read a moment ago counts on for another one.
    server.wait_for_check(Dependency::Storage, true).await;
    sleep(Duration::from_secs(5)).await;
    let check = wait_for_reason(&server, "CredentialsUnavailable").await;
    assert!(check.message.contains("the file with the session token"), "{check:?}");
    write(&place, &second);
    server.wait_until_ready().await;
    server.push(&[&three]).await;
}
