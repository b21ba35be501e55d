//! Tokens that must not get in, one attack each.

use jsonwebtoken::Algorithm;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{ci_rules, in_cluster, refused, whoami};
use crate::support::issuer::{
    AUDIENCE, CLUSTER, Issuer, account_claims, forged, in_seconds, key, public, rsa_key, token,
};
use crate::support::{Place, TestServer};

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

/// Two caches of one cluster, or of one forge: what is made for one is nothing at the other.
#[tokio::test]
async fn a_token_of_another_cache_is_refused() {
    let issuer = Issuer::provider().await;
    let cache = async |audience: &str, own: &str| {
        let place = Place::create().await;
        let file = json!({
            "allow_insecure": true,
            "providers": {
                "ci": { "issuer": issuer.url, "audience": audience, "bound_subject": ["repo:myorg/*"] },
            },
        });
        let file = place.write_file("oidc.json", &file.to_string());
        TestServer::at(place, |parts| {
            parts.oidc = Some(file.into());
            parts.api_token = Some(own.to_owned());
        })
        .await
    };
    let (first_own, second_own) = ("a".repeat(40), "b".repeat(40));
    let first = cache("https://first.example", &first_own).await;
    let second = cache("https://second.example", &second_own).await;
    let of = |audience: &str| {
        let claims = json!({
            "iss": issuer.url, "aud": audience, "exp": in_seconds(300), "sub": "repo:myorg/app",
        });
        token(key("rsa"), &claims)
    };
    for (server, audience, own, others, other_own) in [
        (&first, "https://first.example", &first_own, "https://second.example", &second_own),
        (&second, "https://second.example", &second_own, "https://first.example", &first_own),
    ] {
        whoami(server, &of(audience)).await;
        whoami(server, own).await;
        // A name below the cache's, or one it is below of, is another's too.
        for others in [others, &format!("{audience}/"), audience.trim_end_matches(".example")] {
            let (status, text) = refused(server, &of(others)).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{others}: {text}");
            assert!(text.contains("made for another audience"), "{text}");
        }
        assert_eq!(refused(server, other_own).await.0, StatusCode::UNAUTHORIZED);
    }
}
