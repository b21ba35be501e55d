//! Who vouches: the cluster's API server and the providers of the OIDC file, also when they are away.

use niks3_protocol::api::Permission;
use niks3_protocol::server_config::OidcProvider;
use niks3_server::serve;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{ci_rules, in_cluster, refused, whoami};
use crate::support::closure::{TestPath, begin_request};
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

fn provider(issuer: &str, ca_file: &str, rules: &Value) -> OidcProvider {
    let config = json!({
        "name": "ci", "issuer": issuer, "audience": AUDIENCE, "ca_file": ca_file, "rules": rules,
    });
    serde_json::from_value(config).unwrap()
}

#[tokio::test]
async fn rules_of_configured_providers_add_up() {
    let (place, ci, other) =
        (Place::create().await, Issuer::private_provider().await, Issuer::private_provider().await);
    let providers = vec![
        provider(
            &ci.url,
            &ci.ca_file(&place),
            &json!([
                {"name": "all", "subjects": ["repo:myorg/*"], "permissions": ["Read", "Push"]},
                {
                    "name": "main", "subjects": ["repo:myorg/*"], "permissions": ["Pin"], "pins": ["ci-*"],
                    "claims": [
                        {"pointer": "/project/groups", "any_of": ["infra", "platform/*"]},
                        {"pointer": "/ref~1protected", "any_of": ["true"]},
                    ],
                },
            ]),
        ),
        provider(
            &other.url,
            "/nowhere",
            &json!([{"name": "bob", "subjects": ["bob"], "permissions": ["Admin"]}]),
        ),
    ];
    let server = TestServer::at(place, |parts| parts.auth.oidc = providers).await;
    let claims = |changes: Value| {
        let mut claims = json!({
            "iss": ci.url, "aud": AUDIENCE, "exp": in_seconds(300), "sub": "repo:myorg/app",
            "project": {"groups": ["web", "platform/kernel"]}, "ref/protected": true,
        });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        token(key("rsa"), &claims)
    };
    let identity = whoami(&server, &claims(json!({}))).await;
    assert_eq!(identity.permissions, [Permission::Read, Permission::Push, Permission::Pin]);
    assert_eq!(identity.pins, ["ci-*"]);
    // A claim that is an object, or lists none of the values, or is not there, fits nothing.
    for changes in [
        json!({"project": {"groups": {"platform/kernel": true}}}),
        json!({"project": {"groups": [["platform/kernel"]]}}),
        json!({"project": ["groups", "infra"]}),
        json!({"ref/protected": false}),
        json!({"ref/protected": null}),
    ] {
        let identity = whoami(&server, &claims(changes.clone())).await;
        assert_eq!(identity.permissions, [Permission::Read, Permission::Push], "{changes}");
    }
    let (status, text) = refused(&server, &claims(json!({"sub": "repo:evil/app"}))).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("not a subject this cache lets in (rule \"all\")"), "{text}");
    // Another issuer's word for the same subject is that issuer's: here it cannot even be asked.
    let (status, _) = refused(&server, &claims(json!({"iss": other.url}))).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_provider_that_would_let_too_many_in_stops_the_start() {
    let place = Place::create().await;
    let key = niks3_protocol::nix::SecretKey::from_seed("test-1", [7; 32]).unwrap();
    for (issuer, rules, sentence) in [
        (
            "https://ci.example",
            json!([{"name": "r", "permissions": ["Push"]}]),
            "has neither subjects nor claims",
        ),
        (
            "https://ci.example",
            json!([{"name": "r", "claims": [{"pointer": "ref", "any_of": ["x"]}], "permissions": ["Push"]}]),
            "is no JSON pointer",
        ),
        ("http://ci.example", json!([]), "is not https"),
    ] {
        let mut parts = place.parts("http://localhost", &key);
        parts.auth.oidc = vec![provider(issuer, "/nowhere", &rules)];
        let error = format!("{:#}", serve::open(parts).await.err().unwrap());
        assert!(error.contains(sentence), "{error}");
    }
}

/// Two issuers vouch for the same subject; each speaks for its own alone.
#[tokio::test]
async fn the_same_subject_of_another_issuer_is_somebody_else() {
    let place = Place::create().await;
    let (ours, theirs) = (Issuer::provider().await, Issuer::provider().await);
    let stranger = Issuer::provider().await;
    let provider = |issuer: &Issuer, permissions: &[&str]| json!({ "issuer": issuer.url, "audience": AUDIENCE, "bound_subject": ["repo:myorg/*"], "permissions": permissions });
    let file = json!({
        "allow_insecure": true,
        "providers": { "ours": provider(&ours, &["Push", "Pin"]), "theirs": provider(&theirs, &["Push"]) },
    });
    let file = place.write_file("oidc.json", &file.to_string());
    let server = TestServer::at(place, |parts| parts.oidc = Some(file.into())).await;
    let of = |issuer: &Issuer| {
        let claims = json!({
            "iss": issuer.url, "aud": AUDIENCE, "exp": in_seconds(300), "sub": "repo:myorg/app:ref:refs/heads/main",
        });
        token(key("rsa"), &claims)
    };
    assert_eq!(whoami(&server, &of(&ours)).await.permissions, [Permission::Push, Permission::Pin]);
    assert_eq!(whoami(&server, &of(&theirs)).await.permissions, [Permission::Push]);
    let (status, text) = refused(&server, &of(&stranger)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(text.contains("comes from another issuer"), "{text}");
    assert_eq!(stranger.fetches(), 0, "who is not known is not asked");

    let path = TestPath::new("path", &[]);
    let begun = server.begin(&of(&ours), &begin_request(&path, &[&path])).await;
    let (status, text) = refusal(server.complete(&of(&theirs), &begun.id).await).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{text}");
    let pin = server.request_as(&of(&theirs), Method::POST, "/api/pins/main");
    let pin = pin.json(&json!({"store_path": path.store_path})).send().await.unwrap();
    assert_eq!(refusal(pin).await.0, StatusCode::FORBIDDEN);
}
