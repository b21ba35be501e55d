//! The way from the program to S3, which counts and can be cut: what a failing network is to a push.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Forwards connections while it is up.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    target: String,
    counts: Arc<Counts>,
    task: Option<JoinHandle<()>>,
    /// Bound and never listened on: while the relay is down connections are refused, and nobody else gets the port.
    _port: TcpSocket,
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    bytes: AtomicU64,
    /// After so many bytes the relay goes down by itself.
    limit: AtomicU64,
}

impl Relay {
    /// A relay to `host:port`, up.
    pub(crate) fn to(target: &str) -> Self {
        let port = bound(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = port.local_addr().unwrap();
        let counts = Arc::new(Counts { limit: AtomicU64::new(u64::MAX), ..Counts::default() });
        let mut relay = Self { address, target: target.to_owned(), counts, task: None, _port: port };
        relay.up();
        relay
    }

    /// Connections opened so far.
    pub(crate) fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Bytes sent to S3 so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.counts.bytes.load(Ordering::Relaxed)
    }

    /// Cuts everything once so many more bytes have gone to S3.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.counts.limit.store(self.bytes() + bytes, Ordering::Relaxed);
    }

    /// Lets connections through, without a limit.
    pub(crate) fn up(&mut self) {
        self.counts.limit.store(u64::MAX, Ordering::Relaxed);
        let listener = bound(self.address).listen(256).unwrap();
        let (target, counts) = (self.target.clone(), Arc::clone(&self.counts));
        self.task = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (target, counts) = (target.clone(), Arc::clone(&counts));
                        counts.connections.fetch_add(1, Ordering::Relaxed);
                        connections.spawn(forward(accepted.unwrap().0, target, counts));
                    }
                    // One connection met the limit: all are cut, and no new one is taken.
                    Some(Ok(true)) = connections.join_next() => return,
                }
            }
        }));
    }

    /// Cuts every connection and takes no new one.
    pub(crate) async fn down(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }
}

/// Several may be bound to one port as long as one of them listens at most.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// Gives whether the limit was met.
async fn forward(client: TcpStream, target: String, counts: Arc<Counts>) -> bool {
    let Ok(service) = TcpStream::connect(&target).await else { return false };
    let ((mut from_client, mut to_client), (mut from_service, mut to_service)) =
        (client.into_split(), service.into_split());
    // Ends with this one, so that an answer on its way is cut too.
    let mut back = JoinSet::new();
    back.spawn(async move { copy(&mut from_service, &mut to_client).await });
    let mut buffer = vec![0; 64 << 10];
    let met = loop {
        match from_client.read(&mut buffer).await {
            Ok(count) if count > 0 => {
                let sent = counts.bytes.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
                if sent > counts.limit.load(Ordering::Relaxed) {
                    break true;
                }
                if to_service.write_all(&buffer[..count]).await.is_err() {
                    break false;
                }
            }
            _ => break false,
        }
    };
    drop(to_service);
    if !met {
        back.join_next().await;
    }
    met
}
