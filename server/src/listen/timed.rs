//! A connection that waits so long for its client, and not for ever: for what tells which HTTP it speaks, and for what
//! is sent to be taken.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How HTTP/2 begins. hyper has no timer until all of it, or something else, has come.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection waits for its client.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// For the headers of a request, the wait for it included.
    pub headers: Duration,
    /// For a client to take anything of what is sent: who does not holds a connection of the bucket.
    pub taken: Duration,
}

impl Default for Waits {
    /// Proxies in front keep idle connections for a minute, and are to be the ones that close them. Nix stops reading
    /// while it unpacks.
    fn default() -> Self {
        Self { headers: Duration::from_secs(75), taken: Duration::from_mins(2) }
    }
}

/// A stream that is an error where its client is waited for for too long.
pub(super) struct Timed<S> {
    stream: S,
    begin: Option<Begin>,
    taken: Duration,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// What is there of the preface, and until when the rest is to come.
struct Begin {
    seen: usize,
    until: Pin<Box<Sleep>>,
}

impl Begin {
    /// Whether the HTTP is known once these have come too.
    fn ends_with(&mut self, read: &[u8]) -> bool {
        let rest = &PREFACE[self.seen..];
        self.seen += read.len();
        read.len() >= rest.len() || !rest.starts_with(read)
    }
}

impl<S> Timed<S> {
    pub(super) fn new(stream: S, waits: Waits) -> Self {
        let begin = Begin { seen: 0, until: Box::pin(sleep(waits.headers)) };
        Self { stream, begin: Some(begin), taken: waits.taken, stalled: None }
    }

    fn in_time<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let taken = self.taken;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(taken)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the client took nothing for {taken:?}"),
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let Some(begin) = &mut this.begin else { return read };
        if read.is_ready() {
            if begin.ends_with(&buffer.filled()[before..]) {
                this.begin = None;
            }
            return read;
        }
        ready!(begin.until.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client sent no request")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.in_time(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(context);
        self.in_time(context, closed)
    }
}
