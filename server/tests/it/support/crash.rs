//! Servers that die: each has a runtime of its own, and a crash drops everything it was doing.

use niks3_server::settings::Parts;
use tokio::runtime::{Builder, Runtime};

use super::{Place, TestServer};

/// A server that can be killed between any two of its steps.
pub(crate) struct Mortal {
    /// Its origin.
    pub(crate) url: String,
    runtime: Option<Runtime>,
    _server: TestServer,
}

impl Mortal {
    /// One that is ready for requests.
    pub(crate) async fn start(place: &Place, change: impl FnOnce(&mut Parts) + Send + 'static) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.spawn(TestServer::at(place.clone(), change)).await.unwrap();
        Self { url: server.url.clone(), runtime: Some(runtime), _server: server }
    }
}

/// Handlers, collections and connections end where they are, as in a process that is killed: nothing is
/// answered, given back or written down.
impl Drop for Mortal {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}
