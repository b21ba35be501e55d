//! An S3 server that throttles when it is told to, and is a real one otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

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
    on: Arc<AtomicBool>,
    refused: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Throttle {
    /// One that lets everything through, and says `Retry-After: 7` once it does not.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (on, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (switch, count) = (Arc::clone(&on), Arc::clone(&refused));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, Arc::clone(&switch), Arc::clone(&count)));
            }
        });
        Self { url, on, refused, task }
    }

    pub(crate) fn set(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
    }

    /// Requests it refused.
    pub(crate) fn refused(&self) -> u32 {
        self.refused.load(Ordering::SeqCst)
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Looks at the switch before each chunk of a connection: requests here are short, and come in one.
async fn forward(mut client: TcpStream, on: Arc<AtomicBool>, refused: Arc<AtomicU32>) {
    let mut chunk = vec![0; 64 << 10];
    let mut service = TcpStream::connect(s3_address()).await.unwrap();
    while let Ok(length @ 1..) = client.peek(&mut chunk).await {
        if on.load(Ordering::SeqCst) {
            refused.fetch_add(1, Ordering::SeqCst);
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
            _ = copy_bidirectional(&mut client, &mut service) => return,
            () = wait_for(&on) => {}
        }
    }
}

async fn wait_for(on: &AtomicBool) {
    while !on.load(Ordering::SeqCst) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
