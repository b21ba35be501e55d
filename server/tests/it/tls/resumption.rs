//! Sessions that clients resume.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{CommonName, over_tls};
use crate::support::tls::{Ca, Pair};
use crate::support::{Place, TestServer};

fn config(version: &'static SupportedProtocolVersion, ca: &Ca, own: &Pair) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots)).build().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let builder = ClientConfig::builder_with_protocol_versions(&[version]).with_webpki_verifier(verifier);
    Arc::new(builder.with_client_auth_cert(chain, key).unwrap())
}

/// A request on a connection of its own, and how that began.
async fn handshake(server: &TestServer, config: &Arc<ClientConfig>) -> HandshakeKind {
    let address = server.url.strip_prefix("https://").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    // With the answer come the tickets of TLS 1.3.
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stream.get_ref().1.handshake_kind().unwrap()
}

#[tokio::test]
async fn a_client_certificate_is_looked_at_with_every_connection() {
    let (place, ca, clients) = (Place::create().await, Ca::new(), Ca::new());
    let own = clients.client(&[(CommonName, "builder")]);
    for (client_ca, expected) in [(None, HandshakeKind::Resumed), (Some(&clients), HandshakeKind::Full)] {
        let server = over_tls(&place, &ca, client_ca, Vec::new()).await;
        for version in [&TLS12, &TLS13] {
            let config = config(version, &ca, &own);
            assert_eq!(handshake(&server, &config).await, HandshakeKind::Full);
            assert_eq!(handshake(&server, &config).await, expected, "{version:?}");
        }
    }
}
