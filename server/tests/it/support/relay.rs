//! A way to a service that can be cut: what a failing network is to the server.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// Forwards connections to a service while it is up.
pub(crate) struct Relay {
    /// Where it listens while it is up.
    pub(crate) address: SocketAddr,
    target: String,
    task: Option<JoinHandle<()>>,
}

impl Relay {
    /// A relay that is down, to `host:port`.
    pub(crate) async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, target: target.to_owned(), task: None }
    }

    /// Lets connections through.
    pub(crate) async fn up(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(64).unwrap();
        let target = self.target.clone();
        self.task = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let target = target.clone();
                connections.spawn(async move {
                    let Ok(mut service) = TcpStream::connect(&target).await else { return };
                    let _ = copy_bidirectional(&mut stream, &mut service).await;
                });
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
