//! Connections: accepted, with TLS where it is the server's own, served as HTTP/1.1 or HTTP/2, and let finish when
//! the server stops.

mod timed;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::util::MapRequest;

use self::timed::Timed;
pub use self::timed::Waits;
use crate::tls::{Tls, subject_of};

/// An HTTP/2 client is asked so often whether it is still there.
const PING: Duration = Duration::from_secs(30);
/// After a failure to accept, which is the process being out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A TLS handshake may take so long.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where a request's connection comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// The subject of the client certificate that a request's connection was made with; `None` where it has none that
/// can be read.
#[derive(Debug, Clone)]
pub struct ClientSubject(pub Option<Arc<str>>);

/// Serves until `stop` ends, then closes idle connections and waits for the requests under way: the caller
/// limits that by dropping this.
pub async fn listen(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    waits: Waits,
    router: Router,
    stop: impl Future<Output = ()>,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(waits.headers);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PING);
    let builder = Arc::new(builder);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let (stream, address): (TcpStream, SocketAddr) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "no connection was accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            // Frees what ended connections left.
            Some(_) = connections.join_next() => continue,
            () = &mut stop => break,
        };
        // An answer is written in one go; waiting for more to send with it only delays it.
        let _ = stream.set_nodelay(true);
        let (builder, router, watcher) = (Arc::clone(&builder), router.clone(), graceful.watcher());
        match &tls {
            None => {
                let stream = Timed::new(stream, waits);
                connections.spawn(serve(builder, watcher, stream, router, Peer(address), None));
            }
            Some(tls) => {
                let acceptor = TlsAcceptor::from(tls.now());
                connections.spawn(async move {
                    // Who speaks no TLS, or has a certificate that is not to be believed, gets no further.
                    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => stream,
                        Ok(Err(error)) => {
                            tracing::debug!(%address, %error, "a TLS handshake failed");
                            return;
                        }
                        Err(_) => return,
                    };
                    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                    let client = certificate.map(|der| ClientSubject(subject_of(der).map(Arc::from)));
                    let stream = Timed::new(stream, waits);
                    serve(builder, watcher, stream, router, Peer(address), client).await;
                });
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Serves one connection to its end.
async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    builder: Arc<Builder<TokioExecutor>>,
    watcher: Watcher,
    stream: S,
    router: Router,
    peer: Peer,
    client: Option<ClientSubject>,
) {
    let service = MapRequest::new(router, move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        if let Some(client) = &client {
            request.extensions_mut().insert(client.clone());
        }
        request
    });
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    // How a connection ends is the client's affair; what failed inside was answered and logged.
    drop(watcher.watch(connection.into_owned()).await);
}
