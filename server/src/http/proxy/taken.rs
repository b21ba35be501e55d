//! What is sent of an object over HTTP/2, let go where its reader takes none of it for too long. A connection of HTTP/1.1 ends
//! then (`listen/timed.rs`); of HTTP/2, one whose client answers pings and opens no window would hold what S3 sends for ever.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::task::AbortHandle;

/// The same body, an error where nothing of it is asked for within `limit`, or twice that at most. One of no more than `short`
/// bytes holds nothing, and stays as it is.
pub(super) fn in_time(body: Body, limit: Duration, short: u64) -> Body {
    if body.size_hint().upper().is_some_and(|bytes| bytes <= short) {
        return body;
    }
    let shared = Arc::new(Shared { body: Mutex::new(Some(body)), asked: AtomicU64::new(0) });
    let watch = tokio::spawn(let_go(Arc::downgrade(&shared), limit)).abort_handle();
    Body::new(InTime { shared, limit, watch })
}

struct Shared {
    /// `None` once it was let go.
    body: Mutex<Option<Body>>,
    /// How often bytes were asked for.
    asked: AtomicU64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Body>> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct InTime {
    shared: Arc<Shared>,
    limit: Duration,
    watch: AbortHandle,
}

impl Drop for InTime {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Nobody polls what waits for a window, so it has to be looked at from outside.
async fn let_go(shared: Weak<Shared>, limit: Duration) {
    let mut before = 0;
    loop {
        tokio::time::sleep(limit).await;
        let Some(shared) = shared.upgrade() else { return };
        let asked = shared.asked.load(Ordering::Relaxed);
        if asked == before {
            shared.lock().take();
            return;
        }
        before = asked;
    }
}

impl HttpBody for InTime {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.shared.asked.fetch_add(1, Ordering::Relaxed);
        let mut place = self.shared.lock();
        let Some(body) = place.as_mut() else {
            let why = format!("the client took nothing for {:?}", self.limit);
            return Poll::Ready(Some(Err(axum::Error::new(why))));
        };
        Pin::new(body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.shared.lock().as_ref().is_some_and(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.shared.lock().as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}
