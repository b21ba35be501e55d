//! Who vouches: the cluster's API server and the providers of the OIDC file, also when they are away.

use niks3_protocol::api::Permission;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{ci_rules, in_cluster, refused, whoami};
use crate::support::issuer::{AUDIENCE, Issuer, account_claims, forged, in_seconds, key, token};
use crate::support::{ADMIN, Place, TestServer, refusal};

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
