//! Who pushed what, when and from where.

use niks3_protocol::api::Permission;
use niks3_protocol::api::paths::PathDetails;
use niks3_protocol::nix::NarInfo;
use niks3_protocol::server_config::{KubernetesRule, ServiceAccountRef};
use reqwest::{Method, StatusCode};
use time::OffsetDateTime;

use crate::support::closure::{TestPath, begin_request};
use crate::support::issuer::{CLUSTER, Issuer, account_claims, key, token};
use crate::support::{ADMIN, Place, TestServer, refusal};

async fn details(server: &TestServer, path: &TestPath) -> PathDetails {
    let call = format!("/api/paths/{}", path.store_path.hash());
    let answer = server.request(Method::GET, &call).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_path_says_which_pod_pushed_it() {
    let (place, issuer) = (Place::create().await, Issuer::api_server().await);
    let account = ServiceAccountRef { namespace: "ci".to_owned(), name: "builder".to_owned() };
    let rule = KubernetesRule {
        name: "ci".to_owned(),
        service_accounts: vec![account],
        permissions: vec![Permission::Push],
        pins: Vec::new(),
    };
    let auth = issuer.auth(&place, vec![rule]);
    let server = TestServer::at(place, |parts| parts.auth.kubernetes = Some(auth)).await;
    let ci = token(key("rsa"), &account_claims("ci", "builder"));
    let dependency = TestPath::new("dependency", &[]);
    let path = TestPath::new("path", &[&dependency]);
    let before = OffsetDateTime::now_utc();
    server.push(&[&dependency]).await;
    let begun = server.begin(&ci, &begin_request(&path, &[&path, &dependency])).await;
    server.upload(&ci, &begun, &[&path, &dependency]).await;
    assert_eq!(server.complete(&ci, &begun.id).await.status(), StatusCode::NO_CONTENT);

    let said = details(&server, &path).await;
    assert_eq!(said.pushed_by, format!("{CLUSTER}#system:serviceaccount:ci:builder"));
    for (name, expected) in [
        ("issuer", CLUSTER),
        ("subject", "system:serviceaccount:ci:builder"),
        ("namespace", "ci"),
        ("service_account", "builder"),
        ("address", "127.0.0.1"),
    ] {
        assert_eq!(said.origin[name], expected, "{name}");
    }
    assert!(said.origin.contains_key("pod"), "{:?}", said.origin);
    assert!(said.pushed_at >= before && said.pushed_at <= OffsetDateTime::now_utc(), "{}", said.pushed_at);
    let narinfo = server.get(&format!("/{}", path.key())).await.text().await.unwrap();
    let narinfo: NarInfo = narinfo.parse().unwrap();
    assert_eq!(
        (said.store_path, said.url, said.nar_hash, said.nar_size, said.references, said.signatures),
        (
            narinfo.store_path,
            narinfo.url,
            narinfo.nar_hash,
            narinfo.nar_size,
            narinfo.references,
            narinfo.signatures
        )
    );
    // What was there already stays with who brought it.
    let said = details(&server, &dependency).await;
    assert_eq!((said.pushed_by.as_str(), &said.origin["token"]), ("token:default", &"default".into()));
}

#[tokio::test]
async fn only_what_is_there_has_a_history() {
    let server = TestServer::start().await;
    let path = TestPath::new("path", &[]);
    let call = format!("/api/paths/{}", path.store_path.hash());
    let anonymous = server.anonymous(Method::GET, &call).send().await.unwrap();
    assert_eq!(refusal(anonymous).await.0, StatusCode::UNAUTHORIZED);
    let begun = server.begin(ADMIN, &begin_request(&path, &[&path])).await;
    server.upload(ADMIN, &begun, &[&path]).await;
    let answer = server.request(Method::GET, &call).send().await.unwrap();
    assert_eq!(refusal(answer).await.0, StatusCode::NOT_FOUND, "it is not committed");
    for (hash, expected) in [("short", 400), ("..", 404), ("00bgd045z0d4icpbc2yyz4gx48ak44la", 404)] {
        let answer = server.request(Method::GET, &format!("/api/paths/{hash}")).send().await.unwrap();
        assert_eq!(refusal(answer).await.0.as_u16(), expected, "{hash}");
    }
}
