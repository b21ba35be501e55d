//! Who may read, and by which way.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use niks3_protocol::api::Permission;
use niks3_protocol::server_config::{ReadMode, StaticToken};
use reqwest::{Method, StatusCode};

use crate::support::closure::TestPath;
use crate::support::{ADMIN, Place, TestServer, refusal};

const READER: &str = "test-token-of-a-reader-0123456789abcdef";
const PUSHER: &str = "test-token-of-a-pusher-0123456789abcdef";

async fn private(mode: ReadMode) -> (TestServer, TestPath) {
    let place = Place::create().await;
    let token = |name: &str, token: &str, permission| StaticToken {
        name: name.to_owned(),
        token_file: place.write_file(name, token),
        permissions: vec![permission],
        pins: Vec::new(),
    };
    let tokens = vec![token("reader", READER, Permission::Read), token("pusher", PUSHER, Permission::Push)];
    let server = TestServer::at(place.clone(), |parts| {
        parts.auth.static_tokens = tokens;
        parts.settings.private_reads = true;
        parts.settings.read_mode = mode;
        parts.settings.redirect_ttl = Duration::from_mins(2);
    })
    .await;
    let path = TestPath::new("secret", &[]);
    server.push(&[&path]).await;
    (server, path)
}

#[tokio::test]
async fn a_private_cache_is_read_with_the_permission_alone() {
    let (server, path) = private(ReadMode::Proxy).await;
    let keys = [path.key(), path.nar_key(), path.listing_key(), "nix-cache-info".to_owned(), "x".to_owned()];
    for key in keys.iter().map(|key| format!("/{key}")) {
        let answer = server.get(&key).await;
        let challenges: Vec<_> = answer.headers().get_all("www-authenticate").iter().cloned().collect();
        assert!(challenges.iter().any(|value| value == "Basic realm=\"niks3\""), "{key}: {challenges:?}");
        assert_eq!(refusal(answer).await.0, StatusCode::UNAUTHORIZED, "{key}");
        let refused = server.request_as(PUSHER, Method::GET, &key).send().await.unwrap();
        let (status, text) = refusal(refused).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{key}");
        assert!(text.contains("lacks the permission Read"), "{text}");
        let head = server.anonymous(Method::HEAD, &key).send().await.unwrap();
        assert_eq!(head.status(), StatusCode::UNAUTHORIZED, "{key}");
        if key == "/x" {
            continue;
        }
        let netrc = format!("Basic {}", STANDARD.encode(format!("anybody:{READER}")));
        for header in [netrc, format!("Bearer {READER}"), format!("Bearer {ADMIN}")] {
            let answer = server.anonymous(Method::GET, &key).header("authorization", header);
            let answer = answer.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{key}");
            let kept = answer.headers()["cache-control"].to_str().unwrap();
            assert!(kept.contains("private") && !kept.contains("public"), "{key}: {kept}");
        }
    }
    // Nothing of the sort is asked where the cache is public.
    let public = server.replica(|_| {}).await;
    assert_eq!(public.get(&format!("/{}", path.key())).await.status(), StatusCode::OK);
    assert_eq!(server.get("/api/cache-config").await.status(), StatusCode::OK, "clients learn where to ask");
}

#[tokio::test]
async fn nars_are_read_by_an_address_of_the_bucket_in_the_mode_redirect() {
    let (server, path) = private(ReadMode::Redirect).await;
    let nar = format!("/{}", path.nar_key());
    assert_eq!(server.get(&nar).await.status(), StatusCode::UNAUTHORIZED);
    for method in [Method::GET, Method::HEAD] {
        let answer = server.request_as(READER, method.clone(), &nar).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FOUND);
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let address = answer.headers()["location"].to_str().unwrap();
        assert!(address.contains("X-Amz-Expires=120&"), "{address}");
        let followed = server.http.request(method.clone(), address).header("range", "bytes=1-4");
        let followed = followed.send().await.unwrap();
        assert_eq!(followed.status(), StatusCode::PARTIAL_CONTENT, "{method}");
        if method == Method::GET {
            assert_eq!(followed.bytes().await.unwrap(), path.stored()[&path.nar_key()][1..5]);
        }
        let forged = address.replace(&path.nar_key(), &path.key());
        assert_eq!(server.http.get(forged).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    }
    // Narinfos are small, and their misses many: these come from the server, plain to who cannot undo zstd.
    let narinfo = server.request_as(READER, Method::GET, &format!("/{}", path.key())).send().await.unwrap();
    assert_eq!(narinfo.status(), StatusCode::OK);
    assert!(narinfo.text().await.unwrap().starts_with("StorePath: "));
}
