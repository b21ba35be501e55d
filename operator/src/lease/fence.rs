//! Lets no write through once the lease is over, whoever asks: a process that was stopped goes on where it was, and
//! would write before it looks at a clock.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request};
use kube::client::Body;
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

use super::election::Moment;

/// Until when this operator may write.
#[derive(Debug, Clone)]
pub struct Fence {
    began: Instant,
    /// In milliseconds since then.
    until: Arc<AtomicU64>,
}

impl Fence {
    /// Closed: the lease opens it.
    pub fn closed() -> Self {
        Self { began: Instant::now(), until: Arc::new(AtomicU64::new(0)) }
    }

    /// Open for good: where nobody else acts.
    pub fn none() -> Self {
        Self { began: Instant::now(), until: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    pub(super) fn now(&self) -> Moment {
        self.began.elapsed()
    }

    pub(super) fn instant(&self, moment: Moment) -> Instant {
        self.began + moment
    }

    pub(super) fn until(&self) -> Moment {
        Duration::from_millis(self.until.load(Ordering::Acquire))
    }

    pub(super) fn open(&self, until: Moment) {
        self.until.store(until.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Release);
    }

    pub(super) fn close(&self) {
        self.until.store(0, Ordering::Release);
    }

    fn is_open(&self) -> bool {
        self.now() < self.until()
    }
}

impl<S> Layer<S> for Fence {
    type Service = Fenced<S>;

    fn layer(&self, inner: S) -> Fenced<S> {
        Fenced { inner, fence: self.clone() }
    }
}

/// A client behind the fence.
#[derive(Debug, Clone)]
pub struct Fenced<S> {
    inner: S,
    fence: Fence,
}

/// A write that came too late.
#[derive(Debug, thiserror::Error)]
#[error("this operator does not hold its lease any more; nothing was written")]
struct TooLate;

impl<S> Service<Request<Body>> for Fenced<S>
where
    S: Service<Request<Body>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.method() != Method::GET && !self.fence.is_open() {
            return Box::pin(async { Err(TooLate.into()) });
        }
        let answer = self.inner.call(request);
        Box::pin(async move { answer.await.map_err(Into::into) })
    }
}
