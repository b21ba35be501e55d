//! An S3 server that throttles when it is told to, and is a real one otherwise.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::s3_address;

const ANSWER: &str =
    "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>";

/// A front of the tests' S3 server.
pub(crate) struct Throttle {
    /// Its origin.
    pub(crate) url: String,
    switch: Switch,
    task: JoinHandle<()>,
}

/// What each connection looks at.
#[derive(Clone, Default)]
struct Switch {
    on: Arc<AtomicBool>,
    /// Requests still to be refused while it is off.
    next: Arc<AtomicU32>,
    refused: Arc<AtomicU32>,
}

impl Switch {
    fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst) || self.next.load(Ordering::SeqCst) > 0
    }

    /// Whether a request that is there is refused; it counts.
    fn takes(&self) -> bool {
        let next =
            self.next.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |next| next.checked_sub(1)).is_ok();
        let taken = next || self.on.load(Ordering::SeqCst);
        self.refused.fetch_add(u32::from(taken), Ordering::SeqCst);
        taken
    }
}

impl Throttle {
    /// One that lets everything through, and says `Retry-After: 7` once it does not.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let switch = Switch::default();
        let looked_at = switch.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, looked_at.clone()));
            }
        });
        Self { url, switch, task }
    }

    pub(crate) fn set(&self, on: bool) {
        self.switch.on.store(on, Ordering::SeqCst);
    }

    /// Refuses so many requests.
    pub(crate) fn refuse_next(&self, requests: u32) {
        self.switch.next.store(requests, Ordering::SeqCst);
    }

    /// Requests it refused.
    pub(crate) fn refused(&self) -> u32 {
        self.switch.refused.load(Ordering::SeqCst)
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Looks at the switch before each chunk of a connection: requests here are short, and come in one.
async fn forward(mut client: TcpStream, switch: Switch) {
    let mut chunk = vec![0; 64 << 10];
    let mut service = TcpStream::connect(s3_address()).await.unwrap();
    while let Ok(length @ 1..) = client.peek(&mut chunk).await {
        if switch.takes() {
            let head = chunk.starts_with(b"HEAD ");
            let _ = client.read(&mut chunk[..length]).await;
            let body = if head { "" } else { ANSWER };
            let answer = format!(
                "HTTP/1.1 503 Slow Down\r\nretry-after: 7\r\ncontent-type: application/xml\r\n\
                 content-length: {}\r\nconnection: close\r\n\r\n{body}",
                ANSWER.len()
            );
            let _ = client.write_all(answer.as_bytes()).await;
            let _ = client.shutdown().await;
            return;
        }
        // One request and its answer: whatever comes next is looked at anew.
        tokio::select! {
            biased;
            () = wait_for(&switch) => {}
            _ = copy_bidirectional(&mut client, &mut service) => return,
        }
    }
}

/// Looked at whenever its task is, so that no request gets by that comes after the switch.
async fn wait_for(switch: &Switch) {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    poll_fn(|context| {
        while tick.poll_tick(context).is_ready() {}
        if switch.is_on() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
