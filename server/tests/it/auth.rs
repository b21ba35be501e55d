//! Who is let in, and who is not.

use niks3_protocol::api::{Permission, WhoAmI};
use niks3_protocol::server_config::{KubernetesRule, ServiceAccountRef, StaticToken};
use niks3_server::serve;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::closure::{TestPath, begin_request};
use crate::support::issuer::{
    AUDIENCE, CLUSTER, Issuer, account_claims, forged, in_seconds, key, public, rsa_key, signed, token,
};
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
            assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"niks3\"");
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

/// The claims of a good token, some of them replaced; `null` leaves one out.
fn changed(changes: Value) -> Value {
    let mut claims = account_claims("ci", "builder");
    let Value::Object(changes) = changes else { panic!("not an object") };
    for (name, value) in changes {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(&name);
        } else {
            claims[name] = value;
        }
    }
    claims
}

#[tokio::test]
async fn claims_that_do_not_fit_are_refused() {
    let (server, _issuer) = in_cluster(ci_rules()).await;
    for (changes, sentence) in [
        (json!({"aud": ["another-cache"]}), "made for another audience"),
        (json!({"aud": "another-cache"}), "made for another audience"),
        (json!({"aud": null}), "lacks the claim aud"),
        (json!({"aud": []}), "made for another audience"),
        (json!({"aud": {"a": AUDIENCE}}), "lacks the claim aud"),
        (json!({"iss": "https://evil.example"}), "comes from another issuer"),
        (json!({"iss": [CLUSTER, "https://evil.example"]}), "not one of this cache's tokens"),
        (json!({"iss": null}), "not one of this cache's tokens"),
        (json!({"exp": in_seconds(-90)}), "has expired"),
        (json!({"exp": null}), "lacks the claim exp"),
        (json!({"exp": "tomorrow"}), "lacks the claim exp"),
        (json!({"nbf": in_seconds(300)}), "not valid yet"),
        (json!({"sub": "system:serviceaccount:ci:admin"}), "its subject is not the ServiceAccount it names"),
        (json!({"sub": "system:node:ci"}), "its subject is not the ServiceAccount it names"),
        (json!({"sub": null}), "lacks the claim sub"),
        (json!({"kubernetes.io": null}), "its subject is not the ServiceAccount it names"),
        (json!({"kubernetes.io": {"namespace": "ci"}}), "its subject is not the ServiceAccount it names"),
        (
            json!({"kubernetes.io": {"namespace": ["ci"], "serviceaccount": {"name": "builder"}}}),
            "its subject is not the ServiceAccount it names",
        ),
    ] {
        let (status, text) = refused(&server, &token(key("rsa"), &changed(changes.clone()))).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{changes}");
        assert!(text.contains(sentence), "{changes}: {text}");
    }
    for changes in [
        json!({"aud": AUDIENCE}),
        json!({"aud": ["https://kubernetes.default.svc", AUDIENCE]}),
        json!({"exp": in_seconds(-30)}),
        json!({"nbf": in_seconds(30)}),
        json!({"nbf": null}),
    ] {
        whoami(&server, &token(key("rsa"), &changed(changes))).await;
    }
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let (server, issuer) = in_cluster(ci_rules()).await;
    let claims = account_claims("ci", "builder");
    let good = token(key("rsa"), &claims);
    whoami(&server, &good).await;

    let attacker = rsa_key();
    let by_attacker =
        |header: jsonwebtoken::Header| jsonwebtoken::encode(&header, &claims, &attacker).unwrap();
    let of_key = |algorithm| jsonwebtoken::Header {
        kid: Some("rsa".to_owned()),
        ..jsonwebtoken::Header::new(algorithm)
    };
    // What is public of the RSA key, as the secret of an HMAC.
    let modulus = public(key("rsa"))["n"].as_str().unwrap().to_owned();
    let hmac = |secret: &[u8]| {
        let secret = jsonwebtoken::EncodingKey::from_secret(secret);
        jsonwebtoken::encode(&of_key(Algorithm::HS256), &claims, &secret).unwrap()
    };
    let none = |name: &str| forged(&json!({"alg": name, "kid": "rsa"}), &claims, b"");
    let mut tampered: Vec<&str> = good.split('.').collect();
    let other = account_claims("ci", "admin");
    let other = token(key("rsa"), &other);
    tampered[1] = other.split('.').nth(1).unwrap();
    let jwk_inside = json!({"alg": "RS256", "kid": "mine", "jwk": {"kty": "RSA", "n": modulus, "e": "AQAB"}});
    for (name, token) in [
        ("alg none", none("none")),
        ("alg None", none("None")),
        ("no alg", forged(&json!({"kid": "rsa"}), &claims, b"")),
        ("HS256 with the public modulus", hmac(modulus.as_bytes())),
        ("HS256 with the public key's JSON", hmac(public(key("rsa")).to_string().as_bytes())),
        ("HS256 with nothing", hmac(b"")),
        ("another key under a known id", by_attacker(of_key(Algorithm::RS256))),
        (
            "the key's algorithm of another type",
            by_attacker(jsonwebtoken::Header { kid: Some("p256".to_owned()), ..of_key(Algorithm::RS256) }),
        ),
        ("a key of its own in the header", forged(&jwk_inside, &claims, b"signature")),
        ("no key id", by_attacker(jsonwebtoken::Header::new(Algorithm::RS256))),
        ("other claims under a good signature", tampered.join(".")),
        ("no signature", format!("{}.", good.rsplit_once('.').unwrap().0)),
        ("a cut signature", good[..good.len() - 8].to_owned()),
        ("two parts", good.rsplit_once('.').unwrap().0.to_owned()),
        ("four parts", format!("{good}.x")),
        ("a long text", "x".repeat(7000)),
    ] {
        let (status, text) = refused(&server, &token).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{name}: {text}");
    }
    whoami(&server, &good).await;
    assert!(issuer.fetches() <= 2, "{} fetches", issuer.fetches());
}

#[tokio::test]
async fn made_up_key_ids_do_not_make_the_server_ask_again_and_again() {
    let (server, issuer) = in_cluster(ci_rules()).await;
    let claims = account_claims("ci", "builder");
    let tries = (0..200).map(|number| {
        let token = forged(&json!({"alg": "RS256", "kid": format!("key-{number}")}), &claims, b"signature");
        let server = &server;
        async move { refused(server, &token).await }
    });
    for (status, text) in futures::future::join_all(tries).await {
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{text}");
        assert!(text.contains("its issuer does not know its key"), "{text}");
    }
    assert_eq!(issuer.fetches(), 1);
    whoami(&server, &token(key("rsa"), &claims)).await;
}

#[tokio::test]
async fn an_api_server_that_is_away_harms_only_its_own_tokens() {
    let (place, issuer) = (Place::create().await, Issuer::api_server().await);
    let auth = issuer.auth(&place, ci_rules());
    issuer.stop();
    let server = TestServer::at(place, |parts| parts.auth.kubernetes = Some(auth)).await;
    let answer =
        server.request_as(&token(key("rsa"), &account_claims("ci", "builder")), Method::GET, "/api/whoami");
    let answer = answer.send().await.unwrap();
    assert!(answer.headers().contains_key("retry-after"));
    let (status, text) = refusal(answer).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("cannot be checked now: its issuer did not give its keys"), "{text}");
    whoami(&server, ADMIN).await;
}

#[tokio::test]
async fn providers_of_the_oidc_file_let_in_whom_their_claims_bind() {
    let (place, ci, away) = (Place::create().await, Issuer::provider().await, Issuer::provider().await);
    away.stop();
    let file = json!({
        "allow_insecure": true,
        "providers": {
            "ci": {
                "issuer": ci.url,
                "audience": AUDIENCE,
                "bound_claims": { "repository_owner": ["myorg"], "project.path": ["group/*", "other"] },
                "bound_subject": ["repo:myorg/*:ref:refs/heads/main"],
            },
            "away": { "issuer": away.url, "audience": "away", "permissions": ["Push"] },
        },
    });
    let file = place.write_file("oidc.json", &file.to_string());
    let server = TestServer::at(place, |parts| parts.oidc = Some(file.into())).await;
    let good = json!({
        "iss": ci.url, "aud": AUDIENCE, "exp": in_seconds(300),
        "sub": "repo:myorg/app:ref:refs/heads/main",
        "repository_owner": "myorg", "project": { "path": ["x", "group/app"] },
    });
    let identity = whoami(&server, &token(key("rsa"), &good)).await;
    assert_eq!(identity.identity, format!("{}#repo:myorg/app:ref:refs/heads/main", ci.url));
    assert_eq!(identity.permissions, [Permission::Read, Permission::Push, Permission::Pin, Permission::Gc]);

    for (name, value, sentence) in [
        ("repository_owner", json!("evil"), "its claim \"repository_owner\""),
        ("repository_owner", json!(null), "its claim \"repository_owner\""),
        ("project", json!({"path": "elsewhere/group/app"}), "its claim \"project.path\""),
        ("sub", json!("repo:myorg/app:ref:refs/heads/dev"), "not a subject this cache lets in"),
    ] {
        let mut claims = good.clone();
        claims[name] = value;
        let (status, text) = refused(&server, &token(key("rsa"), &claims)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{claims}");
        assert!(text.contains(sentence), "{text}");
    }
    let mut claims = good.clone();
    claims["aud"] = json!("another");
    assert_eq!(refused(&server, &token(key("rsa"), &claims)).await.0, StatusCode::UNAUTHORIZED);
    claims["iss"] = json!(away.url);
    assert_eq!(refused(&server, &token(key("rsa"), &claims)).await.0, StatusCode::SERVICE_UNAVAILABLE);
    whoami(&server, &token(key("rsa"), &good)).await;

    let config = server.get(&format!("/api/cache-config?issuer={}", away.url)).await;
    assert_eq!(config.json::<Value>().await.unwrap()["oidc_audience"], "away");
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
