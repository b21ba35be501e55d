//! The socket: systemd's, or one of our own; and what is answered there.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use niks3_protocol::nix::StorePath;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use super::queue::Queue;
use super::{Answer, EXCHANGE, HookError, LONGEST, Request};
use crate::printer::chain;

/// After a failure to accept, which is the process being out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Listener {
    socket: UnixListener,
    /// Removed at the end, unless it is systemd's.
    own: Option<PathBuf>,
}

impl Listener {
    /// Takes systemd's socket, or opens one of our own there.
    pub(super) async fn open(path: &Path) -> Result<Self, HookError> {
        let failed = |source| HookError::Socket { path: path.to_owned(), source };
        if let Some(socket) = ListenFd::from_env().take_unix_listener(0).map_err(failed)? {
            socket.set_nonblocking(true).map_err(failed)?;
            return Ok(Self { socket: UnixListener::from_std(socket).map_err(failed)?, own: None });
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        // One that a killed service left is in the way; a file that is no socket is somebody else's.
        if path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket()) {
            if UnixStream::connect(path).await.is_ok() {
                return Err(HookError::InUse(path.to_owned()));
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        let socket = UnixListener::bind(path).map_err(failed)?;
        Ok(Self { socket, own: Some(path.to_owned()) })
    }

    /// Whether systemd opened it.
    pub(super) fn is_activated(&self) -> bool {
        self.own.is_none()
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        self.own.as_ref().map_or_else(|| "systemd's socket".to_owned(), |path| path.display().to_string())
    }

    pub(super) async fn accept(&self) -> UnixStream {
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "no connection was accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.own {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Reads a request, queues all of its paths or none, and says so.
pub(super) async fn answer(stream: UnixStream, queue: Arc<Queue>, news: Arc<Notify>) {
    let exchange = async {
        let (mut reader, mut writer) = stream.into_split();
        let answer = match read(&mut reader).await {
            Ok(paths) if paths.is_empty() => Ok(()),
            Ok(paths) => add(queue, paths).await.inspect(|()| news.notify_one()),
            Err(why) => Err(why),
        };
        let (status, message) = match answer {
            Ok(()) => ("ok", String::new()),
            Err(why) => ("error", why),
        };
        let answer = serde_json::to_string(&Answer { status: status.to_owned(), message })?;
        writer.write_all(format!("{answer}\n").as_bytes()).await?;
        writer.shutdown().await?;
        // To close with something unread would take the answer away again.
        tokio::io::copy(&mut reader, &mut tokio::io::sink()).await
    };
    // Who is gone needs no answer.
    if let Ok(Err(error)) = tokio::time::timeout(EXCHANGE, exchange).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "a request was not answered");
    }
}

async fn read(reader: impl tokio::io::AsyncRead + Unpin) -> Result<Vec<StorePath>, String> {
    let mut line = Vec::new();
    let mut limited = BufReader::new(reader.take(LONGEST));
    limited.read_until(b'\n', &mut line).await.map_err(|error: io::Error| error.to_string())?;
    if line.len() as u64 == LONGEST && !line.ends_with(b"\n") {
        return Err(format!("the request is longer than {LONGEST} bytes; nothing was queued"));
    }
    let request: Request = serde_json::from_slice(&line)
        .map_err(|error| format!("the request is no {{\"paths\": […]}}: {error}; nothing was queued"))?;
    let paths = request.paths.iter().map(|path| path.parse::<StorePath>());
    paths.collect::<Result<_, _>>().map_err(|error| format!("{error}; nothing was queued"))
}

async fn add(queue: Arc<Queue>, paths: Vec<StorePath>) -> Result<(), String> {
    let added = tokio::task::spawn_blocking(move || queue.add(&paths)).await;
    added.map_err(|error| error.to_string())?.map_err(|error| chain(&error))
}
