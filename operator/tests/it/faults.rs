//! A layer in the operator's client that notes every call and lets one of them fail, before it is sent or after
//! the API server acted on it: the latter is also what a crash looks like.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{Method, Request};
use kube::client::Body;
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
        *self.state() = State { calls: Vec::new(), fault };
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

impl<S> Service<Request<Body>> for Faulty<S>
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
        let fault = {
            let mut state = self.faults.state();
            let number = state.calls.len();
            state.calls.push((request.method().clone(), request.uri().path().to_owned()));
            state.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault)
        };
        if fault == Some(Fault::NeverSent) {
            return Box::pin(async { Err("cut before it was sent".into()) });
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await.map_err(Into::into);
            if fault == Some(Fault::AnswerLost) { Err("cut before the answer came".into()) } else { answer }
        })
    }
}
