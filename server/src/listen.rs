//! Connections: accepted, served as HTTP/1.1 or HTTP/2, and let finish when the server stops.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::util::MapRequest;

/// A client may take so long for the headers of a request, the wait for it included: proxies in front keep
/// idle connections for a minute, and are to be the ones that close them.
const HEADERS: Duration = Duration::from_secs(75);
/// An HTTP/2 client is asked so often whether it is still there.
const PING: Duration = Duration::from_secs(30);
/// After a failure to accept, which is the process being out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Where a request's connection comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Serves until `stop` ends, then closes idle connections and waits for the requests under way: the caller
/// limits that by dropping this.
pub async fn listen(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PING);
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
        let service = MapRequest::new(router.clone(), move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(address));
            request
        });
        let service = TowerToHyperService::new(service);
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        // How a connection ends is the client's affair; what failed inside was answered and logged.
        connections.spawn(async move { drop(connection.await) });
    }
    drop(listener);
    graceful.shutdown().await;
}
