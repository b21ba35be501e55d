//! `niks3 hook`: what Nix builds is pushed while it goes on building. The post-build-hook sends paths by a Unix socket, a service
//! queues and pushes them. What goes by the socket is what niks3-hook 1.7 sends and expects.

mod listener;
mod queue;
mod worker;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use niks3_protocol::duration::GoDuration;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::{CommandError, push};
use crate::args::{SendArgs, ServeArgs};
use crate::client::Client;
use crate::printer::{Printer, chain, paths};
use crate::store;
use listener::Listener;
use queue::Queue;
use worker::Worker;

/// One exchange by the socket may take so long: a build waits for it.
const EXCHANGE: Duration = Duration::from_secs(5);
/// Bytes of a request or an answer at most. Nix gives its hook a variable, of which the kernel takes 128 KiB.
const LONGEST: u64 = 1 << 20;
/// A service that systemd starts when somebody connects ends after so long without any work.
const IDLE: GoDuration = GoDuration::seconds(60);

/// Why the service cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    #[error("the queue {path} cannot be used")]
    Queue { path: PathBuf, source: io::Error },
    #[error("the socket {path} cannot be opened")]
    Socket { path: PathBuf, source: io::Error },
    #[error("another service answers at {0} already")]
    InUse(PathBuf),
    #[error("{} left in the queue {queue}", if *.count == 1 { "1 path is".to_owned() } else { format!("{} paths are", .count) })]
    Left { count: usize, queue: PathBuf },
    #[error("the task that pushes ended early")]
    Task(#[from] tokio::task::JoinError),
    #[error("signals cannot be waited for")]
    Signals(#[source] io::Error),
}

impl HookError {
    /// What to do about it.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Queue { .. } => Some("--queue names another folder; /nix/var/nix/gcroots is root's"),
            Self::Socket { .. } => Some("--socket names another place"),
            Self::Left { .. } => Some("the next `niks3 hook serve` pushes them"),
            Self::InUse(_) | Self::Task(_) | Self::Signals(_) => None,
        }
    }
}

/// What the hook sends, one line.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    paths: Vec<String>,
}

/// What it is answered, one line.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    /// `ok`: all of it is queued. `error`: nothing is.
    status: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
}

/// `niks3 hook send`
pub(super) async fn send(args: SendArgs, printer: Printer) {
    if let Err(why) = hand_over(args).await {
        printer.warn(&format!("what was built is not pushed: {why}"));
    }
}

async fn hand_over(SendArgs { socket, paths, derivation }: SendArgs) -> Result<(), String> {
    let mut paths: Vec<String> =
        paths.iter().flat_map(|path| path.split_whitespace()).map(str::to_owned).collect();
    // Nix 2.8.0 gives no paths (NixOS/nix#6446), and some later ones none for what is built again (NixOS/nix#14287).
    if let Some(derivation) = derivation.filter(|derivation| paths.is_empty() && !derivation.is_empty()) {
        paths = store::outputs(&derivation).await.map_err(|error| chain(&error))?;
    }
    if paths.is_empty() {
        return Ok(());
    }
    let request = Request { paths };
    match tokio::time::timeout(EXCHANGE, exchange(&socket, &request)).await {
        Ok(Ok(Answer { status, .. })) if status == "ok" => Ok(()),
        Ok(Ok(Answer { message, .. })) => Err(message),
        Ok(Err(error)) => Err(format!("{}: {error}", socket.display())),
        Err(_) => Err(format!("{}: no answer within {EXCHANGE:?}", socket.display())),
    }
}

async fn exchange(socket: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket).await?;
    let line = format!("{}\n", serde_json::to_string(request)?);
    stream.write_all(line.as_bytes()).await?;
    let mut answer = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut answer).await?;
    Ok(serde_json::from_str(&answer)?)
}

/// `niks3 hook serve`
pub(super) async fn serve(client: Client, args: ServeArgs, printer: Printer) -> Result<(), CommandError> {
    let folder = match &args.db_path {
        Some(database) => database.with_file_name("queue"),
        None => args.queue,
    };
    let queue = Arc::new(Queue::open(&folder)?);
    let left = queue.paths()?.len();
    let listener = Listener::open(&args.socket).await?;
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut signals = async || tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} };
    let idle = match args.idle_exit_timeout {
        Some(GoDuration(time)) => Some(time).filter(|time| !time.is_zero()),
        None => listener.is_activated().then_some(IDLE.0),
    };
    printer.say(&format!("Waiting for paths at {}; the queue is {}", listener.name(), folder.display()));
    if left > 0 {
        printer.say(&format!("{} of before to push", paths(left)));
    }

    let (client, options) = push::engine(client, &args.engine);
    let (news, quiet) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (stop, stopped) = watch::channel(false);
    let worker = Worker::new(client, options, printer, Arc::clone(&queue), args.batch_size.into());
    let worker = worker.run(Arc::clone(&news), idle.map(|idle| (idle, Arc::clone(&quiet))), stopped);
    let mut worker = tokio::spawn(worker);
    let mut exchanges = JoinSet::new();
    loop {
        tokio::select! {
            stream = listener.accept() => {
                let _ = exchanges.spawn(listener::answer(stream, Arc::clone(&queue), Arc::clone(&news)));
            }
            Some(_) = exchanges.join_next() => {}
            () = quiet.notified() => break,
            () = signals() => {
                printer.say("Ending once all is pushed that is queued; a second signal leaves it in the queue");
                break;
            }
        }
    }
    drop(listener);
    while exchanges.join_next().await.is_some() {}
    let _ = stop.send(true);
    tokio::select! {
        ended = &mut worker => ended.map_err(HookError::Task)?,
        () = signals() => {}
    }
    match queue.paths()?.len() {
        0 => Ok(()),
        count => Err(HookError::Left { count, queue: folder }.into()),
    }
}

fn listen(kind: SignalKind) -> Result<Signal, HookError> {
    signal(kind).map_err(HookError::Signals)
}
