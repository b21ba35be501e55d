//! Credentials that the server is not given but gets: by web identity, as pods of a cluster have them, or from an agent
//! beside it. STS and S3 are MinIO's here.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use niks3_protocol::api::health::Dependency;
use niks3_server::bucket::WebIdentity;
use reqwest::{Method, Url};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::start::{program, variables};
use crate::storage::wait_for_reason;
use crate::support::closure::{TestPath, begin_request};
use crate::support::issuer::Issuer;
use crate::support::sts::{STS, Sts, pod_token};
use crate::support::{ADMIN, Place, TestServer, refusal};

/// How long the first keys live, in seconds: as long as the token that they are given for.
const LIFE: i64 = 12;

/// A place, who makes tokens, and the S3 server that takes them.
async fn world() -> (Place, Issuer, Sts) {
    let (place, issuer) = (Place::create().await, Issuer::provider_of(|key| key.id == "rsa").await);
    let minio = Sts::start(&place, &issuer).await;
    (place, issuer, minio)
}

/// A server that has nothing but the name of a file.
async fn server(place: &Place, minio: &Sts, file: &str) -> TestServer {
    let (endpoint, identity) = (
        minio.url.clone(),
        WebIdentity {
            token_file: PathBuf::from(file),
            role_arn: Some(minio.role.clone()),
            session_name: "test".to_owned(),
            sts_endpoint: Some(minio.url.clone()),
        },
    );
    TestServer::launch(place.clone(), move |parts| {
        parts.bucket.endpoint = Some(endpoint);
        parts.bucket.credentials = None;
        parts.bucket.web_identity = Some(identity);
    })
    .await
}

/// The key id in a new upload's addresses, which has to be one of a session.
pub(crate) async fn signed_by(server: &TestServer, path: &TestPath) -> String {
    let begun = server.begin(ADMIN, &begin_request(path, &[path])).await;
    let address = begun.pending_objects[&path.nar_key()].presigned_url.clone().unwrap();
    let address = Url::parse(&address).unwrap();
    let value = |name: &str| address.query_pairs().find(|(is, _)| is == name).unwrap().1.into_owned();
    assert!(!value("X-Amz-Security-Token").is_empty());
    let id = value("X-Amz-Credential").split('/').next().unwrap().to_owned();
    assert_ne!(id, "root-access");
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_had_for_a_token_and_had_anew_before_they_end() {
    let (place, issuer, minio) = world().await;
    let file = place.write_file("pod-token", &pod_token(&issuer, STS, LIFE));
    let started = Instant::now();
    let server = server(&place, &minio, &file).await;
    server.wait_until_ready().await;
    let (first, second, third) =
        (TestPath::new("first", &[]), TestPath::new("second", &[]), TestPath::new("third", &[]));
    server.push(&[&first]).await;
    let id = signed_by(&server, &second).await;
    for _ in 0..3 {
        let again = signed_by(&server, &second).await;
        assert!(
            again == id || started.elapsed() > Duration::from_secs(5),
            "STS is not asked with each begin"
        );
    }

    // Who renews the token writes the file anew, and nobody tells the server.
    place.write_file("pod-token", &pod_token(&issuer, STS, 600));
    while signed_by(&server, &second).await == id {
        assert!(started.elapsed() < Duration::from_secs(10), "the keys are about to end");
        sleep(Duration::from_millis(200)).await;
    }
    assert!(started.elapsed() > Duration::from_secs(4), "keys are kept for half of their life");
    server.push(&[&second]).await;
    // When the first keys are over, nothing is.
    sleep(Duration::from_secs(LIFE.unsigned_abs()).saturating_sub(started.elapsed())).await;
    server.push(&[&third]).await;
    for path in [&first, &second, &third] {
        assert_eq!(server.get(&format!("/{}", path.key())).await.status(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_token_comes_late_waits_for_it_and_says_so() {
    let (place, issuer, minio) = world().await;
    let file = place.write_file("pod-token", "");
    std::fs::remove_file(&file).unwrap();
    let server = server(&place, &minio, &file).await;
    server.wait_for_check(Dependency::Database, true).await;
    let check = wait_for_reason(&server, "CredentialsUnavailable").await;
    assert!(check.message.contains(&format!("the token file {file} cannot be read")), "{check:?}");
    let path = TestPath::new("path", &[]);
    let begin = server.request(Method::POST, "/api/pending_closures").json(&begin_request(&path, &[&path]));
    let (status, text) = refusal(begin.send().await.unwrap()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("(CredentialsUnavailable)") && !text.contains(&file), "{text}");

    place.write_file("pod-token", &pod_token(&issuer, STS, -5));
    let check = server.wait_for_check(Dependency::Storage, false).await;
    assert_eq!(check.reason, "CredentialsUnavailable");
    let secret = pod_token(&issuer, STS, 600);
    place.write_file("pod-token", &secret);
    server.wait_until_ready().await;
    server.push(&[&path]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_source_that_was_asked_is_named_with_what_to_do() {
    let (place, issuer, minio) = world().await;
    let good = place.write_file("good", &pod_token(&issuer, STS, 600));
    // The bucket has to be there for what succeeds.
    let first = server(&place, &minio, &good).await;
    first.wait_until_ready().await;
    first.stop().await;
    let agent = Router::new().route("/keys", get(agent));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent_url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, agent).await.unwrap() });
    let file = |name: &str, content: &str| place.write_file(name, content);
    let (sts, agent_token) = (format!("STS at {}", minio.url), file("agent-token", "of-the-agent"));
    let web = |token: &str| vec![("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_owned())];
    let cases = [
        (web(&good), vec!["are in order"]),
        (
            web("/nowhere"),
            vec!["web identity: the token file /nowhere cannot be read", "AWS_WEB_IDENTITY_TOKEN_FILE"],
        ),
        (web(&file("none", "secret-word")), vec![sts.as_str(), "none, for the role arn:minio", "400"]),
        (web(&file("over", &pod_token(&issuer, STS, -60))), vec![sts.as_str(), "over, for the role", "400"]),
        (web(&file("aud", &pod_token(&issuer, "other", 600))), vec![sts.as_str(), "its audience"]),
        (
            [web(&good), vec![("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1".to_owned())]].concat(),
            vec!["STS at http://127.0.0.1:1 does not answer", "AWS_ENDPOINT_URL_STS"],
        ),
        (vec![], vec!["the environment has none", "tried were AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN"]),
        (
            vec![
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent_url.clone()),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", agent_token),
            ],
            vec!["are in order"],
        ),
        (
            vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent_url)],
            vec!["the environment has none", "a container's role"],
        ),
    ];
    let ours: Vec<_> =
        variables(&place).into_iter().filter(|(name, _)| !name.starts_with("NIKS3_S3_")).collect();
    for (change, sentences) in cases {
        let mut program = program();
        program
            .arg("check")
            .envs(ours.clone())
            .env("NIKS3_S3_BUCKET", place.bucket())
            .env("NIKS3_S3_ENDPOINT", &minio.url)
            .env("NIKS3_S3_USE_IAM", "true")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ENDPOINT_URL_STS", &minio.url)
            .env("AWS_ROLE_ARN", &minio.role)
            .envs(change.clone());
        let output = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        for sentence in &sentences {
            assert!(said.contains(sentence), "{change:?}: {sentence}: {said}");
        }
        assert_eq!(output.status.success(), sentences == ["are in order"], "{change:?}: {said}");
        assert!(!said.contains("secret-word") && !said.contains("eyJ"), "{said}");
    }
}

/// What is golden in the operator is what a server reads: nothing here says a name, a path or an audience once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pod_of_the_operators_sample_has_its_keys_from_sts() {
    let golden = include_str!(
        "../../../operator/src/cache/build/tests/snapshots/niks3_operator__cache__build__tests__samples__the_pod_of_web_identity.snap"
    );
    let pod: Value = serde_norway::from_str(golden.split_once("\n---\n").unwrap().1).unwrap();
    let entries = |list: &str| pod[list].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    // The kubelet: a token for that audience, in that file of that volume, which is mounted there.
    let (volume, token) = entries("volumes")
        .into_iter()
        .find_map(|volume| {
            let sources = volume["projected"]["sources"].as_array()?.clone();
            let token =
                sources.iter().find_map(|source| source["serviceAccountToken"].as_object().cloned())?;
            token.contains_key("audience").then_some((volume, token))
        })
        .unwrap();
    let mount = entries("mounts").into_iter().find(|mount| mount["name"] == volume["name"]).unwrap();
    let file = format!("{}/{}", text(&mount["mountPath"]), text(&token["path"]));
    let (place, issuer) = (Place::create().await, Issuer::provider_of(|key| key.id == "rsa").await);
    let minio = Sts::for_audience(&place, &issuer, token["audience"].as_str().unwrap()).await;
    let here = place.write_file("token", &pod_token(&issuer, token["audience"].as_str().unwrap(), 600));
    // The bucket has to be there.
    let first = server(&place, &minio, &here).await;
    first.wait_until_ready().await;
    first.stop().await;

    // The configuration, of this bucket, and the variables; what stands for this place and time is put in their stead.
    let mut s3 = pod["s3"].clone();
    for (field, value) in [("endpoint", &*minio.url), ("bucket", place.bucket())] {
        assert!(s3[field].is_string(), "{s3}");
        s3[field] = value.into();
    }
    let ours = variables(&place);
    let given = |name: &str| ours.iter().find(|(is, _)| *is == name).unwrap().1.clone();
    let config = json!({
        "cache": {"url": "http://main.nix.svc", "priority": 30, "want_mass_query": true, "store_dir": "/nix/store"},
        "database": {"url_file": place.write_file("url", &given("NIKS3_DB"))},
        "s3": s3,
        "signing_key_files": [given("NIKS3_SIGN_KEY_PATHS")],
    });
    let config = place.write_file("config.json", &config.to_string());
    let mut stands_for = vec![(file, here), (text(&pod["s3"]["endpoint"]), minio.url.clone())];
    let mut web_identity = Vec::new();
    for entry in entries("env") {
        let (name, Some(value)) = (text(&entry["name"]), entry["value"].as_str()) else { continue };
        if name == "AWS_ROLE_ARN" {
            stands_for.push((value.to_owned(), minio.role.clone()));
        }
        if name.starts_with("AWS_") {
            let value = stands_for.iter().find(|(golden, _)| golden == value).map(|(_, here)| here.clone());
            web_identity
                .push((name.clone(), value.unwrap_or_else(|| panic!("{name} fits nothing of the pod"))));
        }
    }
    assert_eq!(web_identity.len(), 3, "{web_identity:?}");
    for (given, sentence) in [(true, "are in order"), (false, "the environment has none")] {
        let mut program = program();
        program.arg("check").env("NIKS3_CONFIG", &config).env("AWS_EC2_METADATA_DISABLED", "true");
        program.envs(web_identity.iter().filter(|_| given).cloned());
        let output = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() == given && said.contains(sentence), "{said}");
    }
}

/// An agent of the container, as that of EKS Pod Identity: it wants its token, and has keys.
async fn agent(headers: HeaderMap) -> Result<Json<Value>, StatusCode> {
    if headers.get("authorization").is_none_or(|given| given != "of-the-agent") {
        return Err(StatusCode::UNAUTHORIZED);
    }
    Ok(Json(json!({
        "AccessKeyId": "root-access", "SecretAccessKey": "root-secret-key", "Token": "",
        "Expiration": "2099-01-01T00:00:00Z",
    })))
}
