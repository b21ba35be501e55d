//! Ways to PostgreSQL and S3 that fail as networks and services do.

mod postgres;
mod s3;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::dice::Dice;
use crate::history::History;

/// What speaks over a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The servers to PostgreSQL.
    Postgres,
    /// The servers to S3.
    S3,
    /// Clients to S3: a client that gives a PUT up has ended it.
    Uploads,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "way to postgres",
            Self::S3 => "way to s3",
            Self::Uploads => "way of uploads",
        }
    }
}

/// One way: where it begins, where it leads, and how it fails.
#[derive(Debug)]
pub struct Way {
    /// Where to connect to.
    pub address: SocketAddr,
    kind: Kind,
    target: String,
    seed: u64,
    /// A late request acts at most so many milliseconds after it was sent.
    latest: u64,
    calm: AtomicBool,
    still: AtomicBool,
    /// Whether connections get through; each of them watches.
    open: watch::Sender<bool>,
    /// How often each thing was asked: its faults follow from its name and this, whoever comes first.
    asked: Mutex<HashMap<String, u64>>,
    history: Arc<History>,
}

impl Way {
    /// A way to `host:port`, which fails from the start.
    pub async fn open(
        kind: Kind,
        target: &str,
        seed: u64,
        latest: std::time::Duration,
        history: Arc<History>,
    ) -> anyhow::Result<Arc<Self>> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("a way's port")?;
        let way = Arc::new(Self {
            address: listener.local_addr()?,
            kind,
            target: target.to_owned(),
            seed,
            latest: u64::try_from(latest.as_millis())?,
            calm: AtomicBool::new(true),
            still: AtomicBool::new(false),
            open: watch::Sender::new(true),
            asked: Mutex::new(HashMap::new()),
            history,
        });
        tokio::spawn(Arc::clone(&way).accept(listener));
        Ok(way)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        while let Ok((client, _)) = listener.accept().await {
            let _ = client.set_nodelay(true);
            if !*self.open.borrow() {
                reset(client);
                continue;
            }
            let way = Arc::clone(&self);
            // Not tied to the connection: what was sent acts, though its sender has hung up.
            tokio::spawn(async move {
                match way.kind {
                    Kind::Postgres => postgres::forward(&way, client).await,
                    Kind::S3 | Kind::Uploads => s3::forward(&way, client).await,
                }
            });
        }
    }

    /// No more faults, or faults again.
    pub fn set_calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::Relaxed);
    }

    /// Nothing fails but that steps of a push are held up, or faults of all kinds again.
    pub fn set_still(&self, still: bool) {
        self.still.store(still, Ordering::Relaxed);
    }

    fn is_still(&self) -> bool {
        self.still.load(Ordering::Relaxed)
    }

    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Cuts every connection and lets no new one through, or ends that.
    pub fn set_open(&self, open: bool) {
        self.history.note(
            self.kind.name(),
            if open { "way opened" } else { "way cut" },
            &serde_json::Value::Null,
        );
        self.open.send_replace(open);
    }

    /// Dice for the next time that something is asked.
    fn dice(&self, what: &str) -> Dice {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let count = asked.entry(what.to_owned()).or_default();
        *count += 1;
        Dice::new(self.seed, &format!("{} {what} {count}", self.kind.name()))
    }

    fn note(&self, fault: &str, what: &str, more: u64) {
        self.history.note(self.kind.name(), fault, &serde_json::json!([what, more]));
    }

    /// Ends once the way is cut.
    async fn cut(&self) {
        let _ = self.open.subscribe().wait_for(|open| !open).await;
    }
}

/// Ends a connection as a machine that lost it does, not as one that closes it.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
    drop(stream);
}
