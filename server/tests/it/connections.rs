//! Connections whose client does nothing: each is closed, and one that is only slow is not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use niks3_server::listen::Waits;
use niks3_server::tls::TlsFiles;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::support::closure::TestPath;
use crate::support::tls::Ca;
use crate::support::{Place, TestServer};

const WAIT: Duration = Duration::from_millis(400);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What never becomes a request, and what comes after one.
const BEGUN: [&[u8]; 6] =
    [b"", b"PRI", PREFACE.split_at(23).0, b"GET /livez HT", b"GET /livez HTTP/1.1\r\nhost: x\r\n", b"\r\n"];

fn address(server: &TestServer) -> SocketAddr {
    server.url.split("//").nth(1).unwrap().parse().unwrap()
}

/// Says this and no more, and gives what it is told until it is hung up on.
async fn closed_after(mut stream: impl AsyncRead + AsyncWrite + Unpin, said: &[u8]) -> String {
    stream.write_all(said).await.unwrap();
    let (started, mut told) = (Instant::now(), Vec::new());
    // Cut off by TLS or by a reset, it is closed as well.
    let ended = timeout(Duration::from_secs(10), stream.read_to_end(&mut told)).await;
    assert!(ended.is_ok(), "who says {:?} is not hung up on", String::from_utf8_lossy(said));
    assert!(started.elapsed() >= WAIT / 2, "{:?} is given no time", String::from_utf8_lossy(said));
    String::from_utf8_lossy(&told).into_owned()
}

#[tokio::test]
async fn who_sends_no_request_is_hung_up_on() {
    let waits = Waits { headers: WAIT, ..Waits::default() };
    let server = TestServer::with(|parts| parts.settings.waits = waits).await;
    let connect = || TcpStream::connect(address(&server));
    for said in BEGUN {
        closed_after(connect().await.unwrap(), said).await;
    }
    // One that was answered waits for the next as long.
    let told = closed_after(connect().await.unwrap(), b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    // Shorter than what HTTP/2 begins with.
    let mut short = connect().await.unwrap();
    short.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut told = String::new();
    short.read_to_string(&mut told).await.unwrap();
    assert!(told.starts_with("HTTP/1.0 200"), "{told}");
}

#[tokio::test]
async fn who_sends_no_request_over_tls_is_hung_up_on() {
    let (place, ca) = (Place::create().await, Ca::new());
    let pair = ca.server(&["127.0.0.1"]);
    let certificate = place.write_file("tls.crt", &pair.certificate).into();
    let key = place.write_file("tls.key", &pair.key).into();
    let server = TestServer::launch(place, |parts| {
        parts.tls = Some(TlsFiles { certificate, key, client_ca: None, client_crl: None });
        parts.settings.waits.headers = WAIT;
    })
    .await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    for said in BEGUN {
        let stream = TcpStream::connect(address(&server)).await.unwrap();
        let name = ServerName::from(address(&server).ip());
        closed_after(connector.connect(name, stream).await.unwrap(), said).await;
    }
}

/// A server with a NAR that no buffer on the way holds; gives its address too.
async fn with_a_nar() -> (TestServer, String) {
    const SIZE: usize = 48 << 20;
    let server = TestServer::with(|parts| parts.settings.waits.taken = WAIT * 2).await;
    let path = TestPath::new("large", &[]);
    server.place().write_object(&path.nar_key(), &vec![7; SIZE]).await;
    (server, path.nar_key())
}

/// The same, and a connection on which it is asked for.
async fn asked_for_a_nar() -> (TestServer, TcpStream) {
    let (server, key) = with_a_nar().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let mut stream = socket.connect(address(&server)).await.unwrap();
    let request = format!("GET /{key} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    (server, stream)
}

/// Bytes until the end, with a pause after each so many.
pub(crate) async fn read(mut stream: TcpStream, every: usize, pause: Duration) -> usize {
    let (mut total, mut next, mut chunk) = (0, every, vec![0; 256 << 10]);
    while let Ok(length @ 1..) = stream.read(&mut chunk).await {
        total += length;
        if total >= next {
            next += every;
            sleep(pause).await;
        }
    }
    total
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_nothing_of_a_nar_does_not_hold_it_for_ever() {
    let (_server, stream) = asked_for_a_nar().await;
    sleep(WAIT * 8).await;
    let total = read(stream, usize::MAX, Duration::ZERO).await;
    assert!(total < 40 << 20, "{total} bytes came in the end");
    // A pause that is shorter is one, however often there is one.
    let (_server, stream) = asked_for_a_nar().await;
    let total = read(stream, 4 << 20, WAIT).await;
    assert!(total > 48 << 20, "{total} bytes came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_opens_no_window_of_http_2_does_not_hold_a_nar_for_ever() {
    let (server, key) = with_a_nar().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().timeout(Duration::from_mins(1));
    let client = client.http2_initial_stream_window_size(64 << 10).build().unwrap();
    let get = || client.get(format!("{}/{key}", server.url)).send();
    let read = async |mut answer: reqwest::Response, every: usize| {
        let (mut total, mut next) = (0, every);
        while let Some(bytes) = answer.chunk().await.map_err(|_| total)? {
            total += bytes.len();
            if total >= next {
                next += every;
                sleep(WAIT).await;
            }
        }
        Ok::<usize, usize>(total)
    };
    let (held, slow) = (get().await.unwrap(), get().await.unwrap());
    assert_eq!(held.version(), reqwest::Version::HTTP_2);
    // Read with pauses, each shorter than what is waited, it comes whole: for longer than the other is waited for.
    assert_eq!(read(slow, 4 << 20).await, Ok(48 << 20));
    let cut = read(held, usize::MAX).await.expect_err("it was held for as long as its client wanted");
    assert!(cut < 1 << 20, "{cut} bytes came");
    // The connection lives.
    assert_eq!(read(get().await.unwrap(), usize::MAX).await, Ok(48 << 20));
}
