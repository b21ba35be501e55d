//! S3 behind a certificate of a CA that only its owner knows.

use niks3_protocol::api::health::Dependency;
use reqwest::StatusCode;

use crate::support::closure::TestPath;
use crate::support::tls::{Ca, TlsFront};
use crate::support::{Place, TestServer, s3_address};

#[tokio::test]
async fn s3_of_a_private_ca_is_used_with_its_ca_file_and_not_without() {
    let (ca, other) = (Ca::new(), Ca::new());
    let s3 = TlsFront::before(&s3_address(), &ca.server(&["127.0.0.1"])).await;
    let place = Place::create().await;
    let with = async |ca: Option<&Ca>| {
        let ca = ca.map(|ca| ca.pem().as_bytes().to_vec());
        TestServer::launch(place.clone(), |parts| {
            // Uploads go to S3 itself: what a client trusts is not the server's affair.
            parts.bucket.public_endpoint = parts.bucket.endpoint.replace(s3.url.clone());
            parts.bucket.ca = ca;
        })
        .await
    };
    for ca in [None, Some(&other)] {
        let server = with(ca).await;
        let check = server.wait_for_check(Dependency::Storage, false).await;
        assert_eq!(check.reason, "EndpointUnreachable", "{check:?}");
        assert!(check.message.contains("certificate"), "what is to be changed is said: {check:?}");
    }
    let server = with(Some(&ca)).await;
    server.wait_until_ready().await;
    let path = TestPath::new("over-tls", &[]);
    server.push(&[&path]).await;
    for key in [path.key(), path.nar_key()] {
        assert_eq!(server.get(&format!("/{key}")).await.status(), StatusCode::OK, "{key}");
    }
}
