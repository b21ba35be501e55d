//! Whatever is logged, no secret is: not at the most verbose level either, of this server's code or of others'.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use niks3_protocol::nix::SecretKey;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::start::{Running, program, variables};
use crate::support::closure::{TestPath, begin_request};
use crate::support::issuer::{AUDIENCE, Issuer, in_seconds, key, token};
use crate::support::{ADMIN, Place, TestServer, environment};

/// A server that logs everything to this file.
async fn logging(place: &Place, more: &[(&str, &str)]) -> (TestServer, Running, String) {
    let mut server = TestServer::at(place.clone(), |_| {}).await;
    let log = place.write_file("log", "");
    let errors = Stdio::from(File::create(&log).unwrap());
    let more = more.iter().copied();
    let running = Running(program().envs(variables(place)).envs(more).stderr(errors).spawn().unwrap());
    for _ in 0..400 {
        let text = std::fs::read_to_string(&log).unwrap();
        let line = text.lines().find(|line| line.contains("\"listening\""));
        if let Some(port) = line.and_then(|line| line.split("127.0.0.1:").nth(1)?.split('"').next()) {
            server.url = format!("http://127.0.0.1:{port}");
            server.wait_until_ready().await;
            return (server, running, log);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not listen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_logged_at_any_level() {
    let (place, issuer) = (Place::create().await, Issuer::provider().await);
    let file = json!({
        "allow_insecure": true,
        "providers": { "ci": { "issuer": issuer.url, "audience": AUDIENCE } },
    });
    let oidc = place.write_file("oidc.json", &file.to_string());
    let told = [
        ("RUST_LOG", "trace"),
        ("NIKS3_READ_MODE", "redirect"),
        ("NIKS3_PRIVATE_READS", "true"),
        ("NIKS3_OIDC_CONFIG", &oidc),
    ];
    let (server, running, log) = logging(&place, &told).await;
    let claims = json!({ "iss": issuer.url, "aud": AUDIENCE, "exp": in_seconds(300), "sub": "ci" });
    let vouched = token(key("rsa"), &claims);
    let basic = STANDARD.encode(format!("anybody:{ADMIN}"));

    for (name, bearer) in [("static", ADMIN), ("vouched", &vouched)] {
        let path = TestPath::new(name, &[]);
        let mut body = begin_request(&path, &[&path]);
        let large = TestPath::with_nar("large", name.into(), &[]);
        body.objects.extend(large.objects().into_iter().map(|mut object| {
            object.nar_size = object.nar_size.map(|_| 20 << 20);
            object
        }));
        // One with parts, which is given up, and one without.
        server.begin(bearer, &body).await;
        let begun = server.begin(bearer, &begin_request(&path, &[&path])).await;
        server.upload(bearer, &begun, &[&path]).await;
        assert_eq!(server.complete(bearer, &begun.id).await.status(), StatusCode::NO_CONTENT);
        for proof in [format!("Basic {basic}"), format!("Bearer {bearer}")] {
            let read = |key: String| {
                server.anonymous(Method::GET, &format!("/{key}")).header("authorization", &proof)
            };
            let answer = read(path.nar_key()).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::FOUND);
            assert!(answer.headers()["location"].to_str().unwrap().contains("X-Amz-Signature="));
            assert_eq!(read(path.key()).send().await.unwrap().status(), StatusCode::OK);
        }
    }
    let refused = format!("{}x", ADMIN.replace("admin", "other"));
    let wrong = server.request_as(&refused, Method::GET, "/api/whoami").send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    drop(running);

    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("\"level\":\"TRACE\"") && text.lines().count() > 100, "little was logged:\n{text}");
    let signing = SecretKey::from_seed("test-1", [7; 32]).unwrap().to_secret_text();
    let signature = vouched.rsplit('.').next().unwrap();
    for (what, secret) in [
        ("the static token", ADMIN),
        ("the static token in Basic", &basic),
        ("a token that was refused", &refused),
        ("the OIDC token", &vouched),
        ("the OIDC token's signature", signature),
        ("the key of S3", &environment("NIKS3_TEST_S3_SECRET_KEY")),
        ("the signing key", signing.trim().split(':').nth(1).unwrap()),
        ("a signed address", "X-Amz-Signature"),
    ] {
        let line = text.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{what} is logged: {}", line.unwrap_or_default());
    }
}
