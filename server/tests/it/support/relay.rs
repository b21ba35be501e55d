//! A way to a service that can be cut, or be slow: what a failing network is to the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
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
    spoil: Option<Spoil>,
    task: Option<JoinHandle<()>>,
}

/// What becomes of an answer in its midst.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spoiling {
    /// Its connection is cut.
    Cut,
    /// Some of its bits are others.
    Flip,
}

/// So many answers to who sends this text are spoiled, after so many bytes.
#[derive(Clone)]
struct Spoil {
    text: String,
    how: Spoiling,
    after: usize,
    left: Arc<AtomicU32>,
    /// The next answer of this connection is to be.
    is_next: Arc<AtomicBool>,
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
        Self { address, target: target.to_owned(), late: None, cut_at: None, spoil: None, task: None }
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

    /// Spoils so many answers to who sends this text, after so many bytes, from its next [`Self::up`] on.
    pub(crate) fn spoil(&mut self, text: String, how: Spoiling, after: usize, times: u32) {
        let (left, is_next) = (Arc::new(AtomicU32::new(times)), Arc::default());
        self.spoil = Some(Spoil { text, how, after, left, is_next });
    }

    /// How many answers are still to be spoiled.
    pub(crate) fn unspoiled(&self) -> u32 {
        self.spoil.as_ref().map_or(0, |spoil| spoil.left.load(Ordering::SeqCst))
    }

    /// Lets connections through.
    pub(crate) fn up(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(64).unwrap();
        let (target, mut late, cut_at) = (self.target.clone(), self.late.clone(), self.cut_at.clone());
        let spoil = self.spoil.clone();
        self.task = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (target, cut_at) = (target.clone(), cut_at.clone());
                let late = late.as_mut().map(Late::branch);
                let spoil = spoil.clone().map(|spoil| Spoil { is_next: Arc::default(), ..spoil });
                connections.spawn(async move {
                    let Ok(service) = TcpStream::connect(&target).await else { return };
                    let (from_client, to_client) = client.into_split();
                    let (from_service, to_service) = service.into_split();
                    tokio::join!(
                        forward(from_client, to_service, late, cut_at, spoil.clone()),
                        forward_back(from_service, to_client, spoil)
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

impl Spoil {
    fn look_at(&self, sent: &[u8]) {
        if sent.windows(self.text.len()).any(|window| window == self.text.as_bytes()) {
            let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            self.is_next.store(left.is_ok(), Ordering::SeqCst);
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
    spoil: Option<Spoil>,
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
        if let Some(spoil) = &spoil {
            spoil.look_at(&chunk[..length]);
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

async fn forward_back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, spoil: Option<Spoil>) {
    let (mut chunk, mut sent) = (vec![0; 64 << 10], 0);
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if let Some(spoil) = spoil.as_ref().filter(|spoil| spoil.is_next.load(Ordering::SeqCst)) {
            sent += length;
            if sent > spoil.after {
                match spoil.how {
                    Spoiling::Cut => return,
                    Spoiling::Flip => chunk[length / 2] ^= 0xff,
                }
                spoil.is_next.store(false, Ordering::SeqCst);
            }
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
