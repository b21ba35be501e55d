//! A way to a service that can be cut, or be slow: what a failing network is to the server.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::dice::Dice;

/// Forwards connections to a service while it is up.
pub(crate) struct Relay {
    /// Where it listens while it is up.
    pub(crate) address: SocketAddr,
    target: String,
    late: Option<Late>,
    cut_at: Option<String>,
    task: Option<JoinHandle<()>>,
}

/// What has this text, such as a delete of S3, arrives up to so many milliseconds late, one in sixteen twice that; also after who sent it
/// has hung up.
#[derive(Clone)]
struct Late {
    dice: Dice,
    millis: u64,
    text: &'static str,
    /// Always so late.
    exactly: bool,
}

impl Relay {
    /// A relay that is down, to `host:port`.
    pub(crate) async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, target: target.to_owned(), late: None, cut_at: None, task: None }
    }

    /// Makes it slow to delete from its next [`Self::up`] on.
    pub(crate) fn delay(&mut self, dice: Dice, millis: u64) {
        self.late = Some(Late { dice, millis, text: "?delete", exactly: false });
    }

    /// Makes whatever has this text so late, from its next [`Self::up`] on.
    pub(crate) fn delay_at(&mut self, text: &'static str, millis: u64) {
        self.late = Some(Late { dice: Dice::new(0, 0), millis, text, exactly: true });
    }

    /// Cuts each connection whose client sends this text, from its next [`Self::up`] on.
    pub(crate) fn cut_at(&mut self, text: &str) {
        self.cut_at = Some(text.to_owned());
    }

    /// Lets connections through.
    pub(crate) fn up(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(64).unwrap();
        let (target, mut late, cut_at) = (self.target.clone(), self.late.clone(), self.cut_at.clone());
        self.task = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (target, cut_at) = (target.clone(), cut_at.clone());
                let late = late.as_mut().map(Late::branch);
                connections.spawn(async move {
                    let Ok(service) = TcpStream::connect(&target).await else { return };
                    let (from_client, to_client) = client.into_split();
                    let (from_service, to_service) = service.into_split();
                    tokio::join!(
                        forward(from_client, to_service, late, cut_at),
                        forward(from_service, to_client, None, None)
                    );
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

impl Late {
    fn branch(&mut self) -> Self {
        Self { dice: Dice::new(self.dice.roll(u64::MAX), 0), ..self.clone() }
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut late: Option<Late>,
    cut_at: Option<String>,
) {
    let mut chunk = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if let Some(Late { dice, millis, text, exactly }) = &mut late
            && chunk[..length].windows(text.len()).any(|window| window == text.as_bytes())
        {
            if *exactly {
                sleep(Duration::from_millis(*millis)).await;
            } else {
                let twice = dice.roll(16) == 0;
                dice.pause(if twice { *millis * 2 } else { *millis }).await;
            }
        }
        if let Some(text) = &cut_at
            && chunk[..length].windows(text.len()).any(|window| window == text.as_bytes())
        {
            return;
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
    if late.is_some() {
        // MinIO drops what it is at when its client hangs up: what is late is to act.
        sleep(Duration::from_secs(1)).await;
    }
    let _ = to.shutdown().await;
}
