//! A layer in the operator's client that notes every call and lets one of them fail, before it is sent or after
//! the API server acted on it: the latter is also what a crash looks like. It also lets watches tell late.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Frame;
use kube::client::{Body, DynBody};
use tokio::time::{Sleep, sleep};
use tower::{BoxError, Layer, Service};

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    NeverSent,
    AnswerLost,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<(Method, String)>,
    fault: Option<(usize, Fault)>,
    late: Option<Duration>,
}

/// What the layer was told and what it saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<State>>);

impl Faults {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, the call with this number fails, counted from 0.
    pub(crate) fn plan(&self, fault: Option<(usize, Fault)>) {
        *self.state() = State { calls: Vec::new(), fault, late: None };
    }

    /// From now on, what watches tell is held back, each time for another while, at most for this.
    pub(crate) fn delay_watches(&self, longest: Duration) {
        self.state().late = Some(longest);
    }

    /// How many calls there were since the last plan.
    pub(crate) fn count(&self) -> usize {
        self.state().calls.len()
    }

    /// How many calls went to a path with this end.
    pub(crate) fn count_of(&self, end: &str) -> usize {
        self.state().calls.iter().filter(|(_, path)| path.ends_with(end)).count()
    }

    /// The calls that were no mere reads.
    pub(crate) fn writes(&self) -> Vec<String> {
        let state = self.state();
        let writes = state.calls.iter().filter(|(method, _)| method != Method::GET);
        writes.map(|(method, path)| format!("{method} {path}")).collect()
    }
}

impl<S> Layer<S> for Faults {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Faulty<S> {
        Faulty { inner, faults: self.clone() }
    }
}

pub(crate) struct Faulty<S> {
    inner: S,
    faults: Faults,
}

/// The body of an answer whose parts come late.
struct Late {
    inner: Box<DynBody>,
    longest: Duration,
    held: Option<(Frame<Bytes>, Pin<Box<Sleep>>)>,
}

impl http_body::Body for Late {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.held.is_none() {
            match ready!(Pin::new(&mut *this.inner).poll_frame(context)) {
                Some(Ok(frame)) => {
                    let chance = RandomState::new().build_hasher().finish();
                    let most = u64::try_from(this.longest.as_millis()).unwrap_or(u64::MAX).max(1);
                    this.held = Some((frame, Box::pin(sleep(Duration::from_millis(chance % most)))));
                }
                other => return Poll::Ready(other),
            }
        }
        if let Some((_, wait)) = &mut this.held {
            ready!(wait.as_mut().poll(context));
        }
        Poll::Ready(this.held.take().map(|(frame, _)| Ok(frame)))
    }
}

impl<S> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>, Response = Response<Box<DynBody>>>,
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
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let (fault, late) = {
            let mut state = self.faults.state();
            let number = state.calls.len();
            state.calls.push((request.method().clone(), request.uri().path().to_owned()));
            let fault = state.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault);
            (fault, state.late.filter(|_| watches))
        };
        if fault == Some(Fault::NeverSent) {
            return Box::pin(async { Err("cut before it was sent".into()) });
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await.map_err(Into::into);
            let late = |body| -> Box<DynBody> {
                match late {
                    Some(longest) => Box::new(Late { inner: body, longest, held: None }),
                    None => body,
                }
            };
            let answer = answer.map(|answer: Self::Response| answer.map(late));
            if fault == Some(Fault::AnswerLost) { Err("cut before the answer came".into()) } else { answer }
        })
    }
}
