//! What the server says of issuers, and keys that come from elsewhere than discovery says.

use std::time::Duration;

use niks3_protocol::api::health::{IssuerKeys, IssuerState};
use niks3_protocol::server_config::OidcProvider;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{ci_rules, refused, whoami};
use crate::support::issuer::{AUDIENCE, CLUSTER, Issuer, account_claims, forged, in_seconds, key, token};
use crate::support::relay::Relay;
use crate::support::{Place, TestServer};

/// No name of any network: discovery would fail.
const NOWHERE: &str = "https://ci.invalid";

fn claims(issuer: &str) -> Value {
    json!({ "iss": issuer, "aud": AUDIENCE, "exp": in_seconds(300), "sub": "repo:myorg/app" })
}

/// What is said of the cluster's issuer and of the other one, by a server that is ready.
async fn issuers(server: &TestServer) -> [IssuerState; 2] {
    let (status, readiness) = server.readiness().await;
    assert!(status == StatusCode::OK && readiness.ready, "an issuer makes nobody unready");
    assert_eq!(readiness.kubernetes_issuer.as_deref(), Some(CLUSTER));
    readiness.issuers.unwrap().try_into().unwrap()
}

#[tokio::test]
async fn an_issuer_that_is_away_is_named_until_it_gives_its_keys() {
    let (place, cluster, ci) = (Place::create().await, Issuer::api_server().await, Issuer::provider().await);
    let mut relay = Relay::to(ci.url.trim_start_matches("http://")).await;
    let jwks_url = format!("http://{}/openid/v1/jwks", relay.address);
    let provider =
        json!({ "issuer": NOWHERE, "audience": AUDIENCE, "jwks_url": jwks_url, "permissions": ["Push"] });
    let file = json!({ "allow_insecure": true, "providers": { "ci": provider } }).to_string();
    let (file, auth) = (place.write_file("oidc.json", &file), cluster.auth(&place, ci_rules()));
    let server = TestServer::at(place, |parts| {
        parts.oidc = Some(file.into());
        parts.auth.kubernetes = Some(auth);
    })
    .await;
    let unasked = |name: Option<&str>| IssuerState {
        name: name.map(str::to_owned),
        keys: IssuerKeys::Absent,
        problem: None,
    };
    assert_eq!(issuers(&server).await, [unasked(None), unasked(Some("ci"))], "no token came in");

    let good = token(key("rsa"), &claims(NOWHERE));
    assert_eq!(refused(&server, &good).await.0, StatusCode::SERVICE_UNAVAILABLE);
    let [_, ci_state] = issuers(&server).await;
    let problem = ci_state.problem.unwrap();
    assert_eq!(ci_state.keys, IssuerKeys::Absent);
    assert!(problem.message.contains("Connection refused"), "{problem:?}");
    assert!(!problem.message.contains("127.0.0.1") && !problem.message.contains("http"), "{problem:?}");
    whoami(&server, &token(key("rsa"), &account_claims("ci", "builder"))).await;
    let [cluster_state, ci_state] = issuers(&server).await;
    assert_eq!((cluster_state.keys, cluster_state.problem), (IssuerKeys::Fresh, None), "others go on");
    assert_eq!(ci_state.problem.unwrap().since, problem.since);

    relay.up();
    let mut waited = 0;
    while issuers(&server).await[1].problem.is_some() {
        waited += 1;
        assert!(waited < 200, "its keys should be fetched without another token");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((issuers(&server).await[1].keys, ci.fetches()), (IssuerKeys::Fresh, 1));
    whoami(&server, &good).await;
    assert_eq!(ci.fetches(), 1);
}

#[tokio::test]
async fn keys_come_from_where_the_configuration_says() {
    let (place, ci) = (Place::create().await, Issuer::private_provider().await);
    let config = json!({
        "name": "ci", "issuer": NOWHERE, "audience": AUDIENCE, "ca_file": ci.ca_file(&place),
        "jwks_url": format!("{}/openid/v1/jwks", ci.url),
        "rules": [{"name": "all", "subjects": ["*"], "permissions": ["Push"]}],
    });
    let provider: OidcProvider = serde_json::from_value(config).unwrap();
    let server = TestServer::at(place, |parts| parts.auth.oidc = vec![provider]).await;
    assert_eq!(
        whoami(&server, &token(key("rsa"), &claims(NOWHERE))).await.identity,
        format!("{NOWHERE}#repo:myorg/app")
    );
    // They are this issuer's alone, and nobody else's word counts.
    assert_eq!(refused(&server, &token(key("rsa"), &claims(&ci.url))).await.0, StatusCode::UNAUTHORIZED);
    let stranger = forged(&json!({"alg": "RS256", "kid": "rsa"}), &claims(NOWHERE), b"signature");
    assert_eq!(refused(&server, &stranger).await.0, StatusCode::UNAUTHORIZED);
}
