//! What is told of calls to S3.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    operation: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: String,
}

/// Calls to S3. Whoever has a clone counts the same ones.
#[derive(Debug, Clone)]
pub struct S3Calls {
    calls: Family<CallLabels, Counter>,
    durations: Family<OperationLabels, Histogram>,
}

impl Default for S3Calls {
    fn default() -> Self {
        let durations = Family::<OperationLabels, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 4.0, 8))
        });
        Self { calls: Family::default(), durations }
    }
}

impl S3Calls {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("s3_calls", "Calls to S3, retries within one not counted", self.calls.clone());
        registry.register(
            "s3_call_duration_seconds",
            "Time to the answer's first byte, retries and the wait for a turn included",
            self.durations.clone(),
        );
    }

    /// Notes a call.
    pub fn count(&self, operation: &str, result: &'static str, took: Duration) {
        let operation = operation.trim_end_matches(" of").replace(' ', "_");
        self.durations
            .get_or_create(&OperationLabels { operation: operation.clone() })
            .observe(took.as_secs_f64());
        self.calls.get_or_create(&CallLabels { operation, result }).inc();
    }
}
