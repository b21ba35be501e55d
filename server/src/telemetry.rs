//! Logs on standard error: JSON, or lines where a person reads them. And traces, where a collector is named.

pub mod traces;

use std::error::Error;
use std::io::IsTerminal as _;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

pub use traces::Traces;

/// Starts logging. `RUST_LOG` wins over the flag.
pub fn init(debug: bool, traces: Option<&Traces>) {
    let default = if debug { "info,niks3_server=debug" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let logs = if std::io::stderr().is_terminal() {
        lines.with_filter(filter).boxed()
    } else {
        lines.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed()
    };
    registry().with(std::iter::once(logs).chain(traces.map(Traces::layer)).collect::<Vec<_>>()).init();
}

/// An error and its causes.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (**error).source())
}

/// The same in one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
