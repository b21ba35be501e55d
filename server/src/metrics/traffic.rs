//! The requests of this moment: what can wait gives way to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How many requests began, and how many of them are not answered yet.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    begun: Arc<AtomicU64>,
    under_way: Gauge,
}

/// A request until its answer begins, or its client goes away.
#[derive(Debug)]
pub struct UnderWay(Gauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Traffic {
    /// Counts a request until what this gives is dropped.
    pub fn begin(&self) -> UnderWay {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.under_way.inc();
        UnderWay(self.under_way.clone())
    }

    /// All that began.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Those that are not answered yet.
    pub fn under_way(&self) -> i64 {
        self.under_way.get()
    }

    /// Gives what another name is to tell too.
    pub(super) fn register(&self, registry: &mut Registry) -> Gauge {
        registry.register(
            "http_requests_under_way",
            "HTTP requests not answered yet",
            self.under_way.clone(),
        );
        self.under_way.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::Traffic;

    #[test]
    fn a_request_counts_until_it_ends_however_it_does() {
        let traffic = Traffic::default();
        let (first, second) = (traffic.begin(), traffic.begin());
        assert_eq!((traffic.begun(), traffic.under_way()), (2, 2));
        drop(first);
        let failed = std::panic::catch_unwind(move || {
            let _second = second;
            panic!("as a handler may");
        });
        assert!(failed.is_err());
        assert_eq!((traffic.begun(), traffic.under_way()), (2, 0));
    }
}
