//! What `/metrics` shows: every name and label set stands here.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::auth::{AuthError, Identity};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// All metrics of the server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
    auth: Family<OutcomeLabels, Counter>,
    connections: Gauge,
    idle_connections: Gauge,
    read_bytes: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("niks3");
        let durations = Family::<RouteLabels, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 4.0, 8))
        });
        let metrics = Self {
            requests: Family::default(),
            durations,
            auth: Family::default(),
            connections: Gauge::default(),
            idle_connections: Gauge::default(),
            read_bytes: Counter::default(),
            registry: Registry::default(),
        };
        registry.register("http_requests", "HTTP requests answered", metrics.requests.clone());
        registry.register(
            "http_request_duration_seconds",
            "Time to the answer's first byte",
            metrics.durations.clone(),
        );
        registry.register("auth_attempts", "Proofs of identity checked", metrics.auth.clone());
        registry.register("db_connections", "Connections to the database", metrics.connections.clone());
        registry.register("db_idle_connections", "Of those, idle", metrics.idle_connections.clone());
        registry.register("proxy_read_bytes", "Bytes of objects sent to readers", metrics.read_bytes.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// Notes an answered request.
    pub fn count_request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let labels = RequestLabels { method: method.to_owned(), route: route.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&RouteLabels { route: route.to_owned() }).observe(took.as_secs_f64());
    }

    /// Notes a check of an identity.
    pub fn count_auth(&self, result: &Result<Identity, AuthError>) {
        let outcome = match result {
            Ok(_) => "accepted",
            Err(AuthError::Missing) => "missing",
            Err(AuthError::Invalid(_) | AuthError::NoSubject) => "invalid",
            Err(AuthError::Forbidden(_)) => "forbidden",
            Err(AuthError::Unavailable(_)) => "unavailable",
        };
        self.auth.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Notes bytes on their way to a reader.
    pub fn count_read(&self, bytes: u64) {
        self.read_bytes.inc_by(bytes);
    }

    /// The text of `/metrics`.
    pub fn render(&self, pool: &sqlx::PgPool) -> Result<String, std::fmt::Error> {
        self.connections.set(i64::from(pool.size()));
        self.idle_connections.set(i64::try_from(pool.num_idle()).unwrap_or(i64::MAX));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
