//! Who is let in, and who is not.

mod attacks;
mod away;
mod issuers;
mod order;

use niks3_protocol::api::{Permission, WhoAmI};
use niks3_protocol::server_config::{KubernetesRule, ServiceAccountRef, StaticToken};
use niks3_server::serve;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::closure::{TestPath, begin_request};
use crate::support::issuer::{AUDIENCE, CLUSTER, Issuer, account_claims, key, signed, token};
use crate::support::{ADMIN, Place, TestServer, refusal};
use jsonwebtoken::Algorithm;

const CI: &str = "test-token-of-the-ci-0123456789abcdefghij";

fn rule(namespace: &str, name: &str, permissions: &[Permission], pins: &[&str]) -> KubernetesRule {
    let account = ServiceAccountRef { namespace: namespace.to_owned(), name: name.to_owned() };
    KubernetesRule {
        name: format!("{namespace}/{name}"),
        service_accounts: vec![account],
        permissions: permissions.to_vec(),
        pins: pins.iter().map(ToString::to_string).collect(),
    }
}

/// A server in a cluster with these rules, and the cluster's API server.
async fn in_cluster(rules: Vec<KubernetesRule>) -> (TestServer, Issuer) {
    let (place, issuer) = (Place::create().await, Issuer::api_server().await);
    let auth = issuer.auth(&place, rules);
    let server = TestServer::at(place, |parts| parts.auth.kubernetes = Some(auth)).await;
    (server, issuer)
}

fn ci_rules() -> Vec<KubernetesRule> {
    vec![rule("ci", "builder", &[Permission::Push], &[])]
}

async fn whoami(server: &TestServer, token: &str) -> WhoAmI {
    let answer = server.request_as(token, Method::GET, "/api/whoami").send().await.unwrap();
    let status = answer.status();
    assert_eq!(status, StatusCode::OK, "{}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}

async fn refused(server: &TestServer, token: &str) -> (StatusCode, String) {
    refusal(server.request_as(token, Method::GET, "/api/whoami").send().await.unwrap()).await
}

#[tokio::test]
async fn static_tokens_have_their_permissions_and_no_others() {
    let place = Place::create().await;
    let ci = StaticToken {
        name: "ci".to_owned(),
        token_file: place.write_file("ci-token", &format!("{CI}\n")),
        permissions: vec![Permission::Push, Permission::Pin],
        pins: vec!["ci-*".to_owned()],
    };
    let server = TestServer::at(place, |parts| parts.auth.static_tokens = vec![ci]).await;
    let path = TestPath::new("release", &[]);
    server.push(&[&path]).await;

    assert_eq!(whoami(&server, ADMIN).await.permissions, [Permission::Admin]);
    let identity = whoami(&server, CI).await;
    assert_eq!(identity.identity, "token:ci");
    assert_eq!(identity.pins, ["ci-*"]);
    let pin = json!({ "store_path": path.store_path });
    for (method, path, body, expected) in [
        (Method::POST, "/api/pins/ci-main", Some(&pin), Ok(())),
        (Method::POST, "/api/pins/release", Some(&pin), Err("may write pins named ci-*, not release")),
        (Method::DELETE, "/api/pins/release", None, Err("may write pins named ci-*, not release")),
        (Method::DELETE, "/api/closures?older-than=1h", None, Err("token:ci lacks the permission GC")),
        (Method::DELETE, "/api/pending_closures?older-than=1h", None, Err("lacks the permission GC")),
        (Method::GET, "/api/gc/status", None, Err("lacks the permission GC")),
        (Method::GET, "/api/pins", None, Ok(())),
    ] {
        let mut request = server.request_as(CI, method.clone(), path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        match expected {
            Ok(()) => assert!(answer.status().is_success(), "{method} {path}: {}", answer.status()),
            Err(sentence) => {
                let (status, text) = refusal(answer).await;
                assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
                assert!(text.contains(sentence), "{method} {path}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn who_proves_nothing_gets_401_and_is_told_how_to_prove_it() {
    let server = TestServer::start().await;
    let wrong = "wrong-token-0123456789abcdefghijklmnopqrst";
    for (header, sentence) in [
        (None, "send `Authorization: Bearer TOKEN`"),
        (Some(String::new()), "send `Authorization: Bearer TOKEN`"),
        (Some("Bearer ".to_owned()), "send `Authorization: Bearer TOKEN`"),
        (Some(ADMIN.to_owned()), "send `Authorization: Bearer TOKEN`"),
        (Some(format!("Basic {ADMIN}")), "send `Authorization: Bearer TOKEN`"),
        (Some(format!("Bearer {wrong}")), "not one of this cache's tokens"),
        (Some(format!("Bearer {}", &ADMIN[1..])), "not one of this cache's tokens"),
        (Some(format!("Bearer {ADMIN}x")), "not one of this cache's tokens"),
        (Some("Bearer a.b.c".to_owned()), "not one of this cache's tokens"),
    ] {
        for (method, path) in [
            (Method::POST, "/api/pending_closures"),
            (Method::GET, "/api/pins"),
            (Method::GET, "/api/whoami"),
        ] {
            let mut request = server.anonymous(method, path).body("{}");
            if let Some(header) = &header {
                request = request.header("authorization", header);
            }
            let answer = request.send().await.unwrap();
            let challenges = answer.headers().get_all("www-authenticate").iter();
            assert!(challenges.eq(["Bearer realm=\"niks3\"", "Basic realm=\"niks3\""]));
            let (status, text) = refusal(answer).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
            assert!(text.contains(sentence), "{text}");
            assert!(!text.contains("token-0123") && !text.contains(ADMIN), "{text}");
        }
    }
    let lower =
        server.anonymous(Method::GET, "/api/whoami").header("authorization", format!("bearer {ADMIN}"));
    assert_eq!(lower.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_short_token_stops_the_start() {
    let place = Place::create().await;
    let key = niks3_protocol::nix::SecretKey::from_seed("test-1", [7; 32]).unwrap();
    let mut parts = place.parts("http://localhost", &key);
    parts.api_token = Some("x".repeat(35));
    let error = format!("{:#}", serve::open(parts).await.err().unwrap());
    assert_eq!(error, "static token default has 35 characters; at least 36 are needed");
}

#[tokio::test]
async fn a_service_account_pushes_by_its_own_token_alone() {
    let (server, issuer) = in_cluster(ci_rules()).await;
    assert_eq!(issuer.fetches(), 0, "nothing is fetched before it is needed");
    let builder = token(key("rsa"), &account_claims("ci", "builder"));
    let identity = whoami(&server, &builder).await;
    assert_eq!(identity.identity, format!("{CLUSTER}#system:serviceaccount:ci:builder"));
    assert_eq!(identity.permissions, [Permission::Push]);

    let path = TestPath::new("built", &[]);
    let begun = server.begin(&builder, &begin_request(&path, &[&path])).await;
    server.upload(&builder, &begun, &[&path]).await;
    let answer = server.complete(&builder, &begun.id).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(issuer.fetches(), 1);

    for (issuer, audience) in
        [(None, Some(AUDIENCE)), (Some(CLUSTER), Some(AUDIENCE)), (Some("https://x"), None)]
    {
        let query = issuer.map_or(String::new(), |issuer| format!("?issuer={issuer}"));
        let config: Value = server.get(&format!("/api/cache-config{query}")).await.json().await.unwrap();
        assert_eq!(config["oidc_audience"].as_str(), audience, "{issuer:?}");
    }
}

#[tokio::test]
async fn rules_add_up_and_name_whole_accounts() {
    let (server, _issuer) = in_cluster(vec![
        rule("ci", "*", &[Permission::Push], &[]),
        rule("*", "releaser", &[Permission::Pin], &["release-*"]),
        rule("ci", "releaser", &[Permission::Pin], &["ci-*"]),
        rule("ops*", "gc", &[Permission::Gc], &[]),
    ])
    .await;
    for (namespace, name, permissions, pins) in [
        ("ci", "anybody", vec![Permission::Push], vec![]),
        ("ci", "releaser", vec![Permission::Push, Permission::Pin], vec!["release-*", "ci-*"]),
        ("prod", "releaser", vec![Permission::Pin], vec!["release-*"]),
        ("ci2", "anybody", vec![], vec![]),
        ("ops1", "gc", vec![], vec![]),
    ] {
        let identity = whoami(&server, &token(key("ed"), &account_claims(namespace, name))).await;
        assert_eq!(identity.permissions, permissions, "{namespace}/{name}");
        assert_eq!(identity.pins, pins, "{namespace}/{name}");
    }
    let stranger = token(key("p256"), &account_claims("elsewhere", "default"));
    let path = TestPath::new("not-let-in", &[]);
    let begin = server.request_as(&stranger, Method::POST, "/api/pending_closures");
    let (status, text) = refusal(begin.json(&begin_request(&path, &[&path])).send().await.unwrap()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("system:serviceaccount:elsewhere:default is not named by any rule"), "{text}");
    assert!(text.contains("needs the permission Push"), "{text}");
}

#[tokio::test]
async fn every_algorithm_of_a_key_is_taken_and_no_other() {
    let (server, _issuer) = in_cluster(ci_rules()).await;
    let claims = account_claims("ci", "builder");
    for (id, algorithm) in [
        ("rsa", Algorithm::RS256),
        ("rsa", Algorithm::RS384),
        ("rsa", Algorithm::RS512),
        ("rsa", Algorithm::PS256),
        ("rsa", Algorithm::PS384),
        ("rsa", Algorithm::PS512),
        ("p256", Algorithm::ES256),
        ("p384", Algorithm::ES384),
        ("ed", Algorithm::EdDSA),
    ] {
        whoami(&server, &signed(key(id), algorithm, &claims)).await;
    }
}

#[tokio::test]
async fn an_upload_belongs_to_who_began_it() {
    let rules = vec![rule("ci", "*", &[Permission::Push], &[])];
    let (server, _issuer) = in_cluster(rules).await;
    let [alice, bob] = ["alice", "bob"].map(|name| token(key("ed"), &account_claims("ci", name)));
    let path = TestPath::new("of-alice", &[]);
    let begun = server.begin(&alice, &begin_request(&path, &[&path])).await;
    let sign = format!("/api/pending_closures/{}/sign", begun.id);
    let body = crate::support::closure::sign_request(&[&path]);
    let answer = server.request_as(&bob, Method::POST, &sign).json(&body).send().await.unwrap();
    let (status, text) = refusal(answer).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{text}");
    let (status, text) = refusal(server.complete(&bob, &begun.id).await).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{text}");
}
