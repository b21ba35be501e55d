//! What `/metrics` shows: every name and label set stands here.

mod former;
mod s3;
mod traffic;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use niks3_protocol::api::gc::GcStats;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::auth::{AuthError, Identity};
pub use former::Former;
pub use s3::S3Calls;
pub use traffic::Traffic;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: String,
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
    /// The requests of this moment.
    pub traffic: Traffic,
    /// What has other names too, as in niks3 1.7.
    pub former: Former,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
    auth: Family<OutcomeLabels, Counter>,
    connections: Gauge,
    idle_connections: Gauge,
    max_connections: Gauge,
    uploads: Family<OutcomeLabels, Counter>,
    upload_objects: Histogram,
    commits: Histogram,
    collections: Family<OutcomeLabels, Histogram>,
    read_bytes: Counter<u64, AtomicU64>,
    resigned: Family<OutcomeLabels, Counter>,
    keys_read: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(&S3Calls::default())
    }
}

impl Metrics {
    /// With what the bucket counts.
    pub fn new(s3: &S3Calls) -> Self {
        let mut registry = Registry::with_prefix("niks3");
        let durations = Family::<RouteLabels, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 4.0, 8))
        });
        let metrics = Self {
            traffic: Traffic::default(),
            former: Former::default(),
            requests: Family::default(),
            durations,
            auth: Family::default(),
            connections: Gauge::default(),
            idle_connections: Gauge::default(),
            max_connections: Gauge::default(),
            uploads: Family::default(),
            upload_objects: Histogram::new(exponential_buckets(1.0, 4.0, 10)),
            commits: Histogram::new(exponential_buckets(0.004, 4.0, 8)),
            collections: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.1, 4.0, 9))),
            read_bytes: Counter::default(),
            resigned: Family::default(),
            keys_read: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("http_requests", "HTTP requests answered", metrics.requests.clone());
        registry.register(
            "http_request_duration_seconds",
            "Time to the answer's first byte",
            metrics.durations.clone(),
        );
        let under_way = metrics.traffic.register(&mut registry);
        metrics.former.register(&mut registry, under_way);
        registry.register("auth_attempts", "Proofs of identity checked", metrics.auth.clone());
        registry.register("db_connections", "Connections to the database", metrics.connections.clone());
        registry.register("db_idle_connections", "Of those, idle", metrics.idle_connections.clone());
        registry.register(
            "db_max_connections",
            "Connections there may be: with as many and none idle, calls wait",
            metrics.max_connections.clone(),
        );
        registry.register("uploads", "Uploads begun, committed and failed to", metrics.uploads.clone());
        registry.register("upload_objects", "Objects an upload begins with", metrics.upload_objects.clone());
        registry.register(
            "upload_commit_duration_seconds",
            "Time of a commit that succeeded",
            metrics.commits.clone(),
        );
        registry.register(
            "gc_duration_seconds",
            "Time of a collection, by how it ended",
            metrics.collections.clone(),
        );
        registry.register(
            "resign_narinfos",
            "Stored narinfos looked at because the keys changed",
            metrics.resigned.clone(),
        );
        registry.register(
            "signing_keys_last_reload_successful",
            "Whether what the key files hold is in force",
            metrics.keys_read.clone(),
        );
        metrics.keys_read.set(1);
        s3.register(&mut registry);
        registry.register("proxy_read_bytes", "Bytes of objects sent to readers", metrics.read_bytes.clone());
        Self { registry, ..metrics }
    }

    /// Notes an answered request.
    pub fn count_request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let labels = RequestLabels { method: method.to_owned(), route: route.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
        let labels = RouteLabels { method: method.to_owned(), route: route.to_owned() };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
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

    /// Notes the begin of an upload.
    pub fn count_begin(&self, objects: usize, begun: bool) {
        self.uploads.get_or_create(&OutcomeLabels { outcome: if begun { "begun" } else { "refused" } }).inc();
        if begun {
            self.upload_objects.observe(f64::from(u32::try_from(objects).unwrap_or(u32::MAX)));
        }
    }

    /// Notes the end of a commit.
    pub fn count_commit(&self, took: Duration, committed: bool) {
        let outcome = if committed { "committed" } else { "failed" };
        self.uploads.get_or_create(&OutcomeLabels { outcome }).inc();
        if committed {
            self.commits.observe(took.as_secs_f64());
        }
    }

    /// Notes the end of a collection, and what it did.
    pub fn count_collection(&self, took: Duration, succeeded: bool, stats: &GcStats) {
        self.former.count_collection(succeeded, stats);
        let outcome = if succeeded { "succeeded" } else { "failed" };
        self.collections.get_or_create(&OutcomeLabels { outcome }).observe(took.as_secs_f64());
    }

    /// Notes stored narinfos that were looked at.
    pub fn count_resigned(&self, outcome: &'static str, narinfos: u64) {
        self.resigned.get_or_create(&OutcomeLabels { outcome }).inc_by(narinfos);
    }

    /// Notes whether what the key files hold is in force.
    pub fn note_keys(&self, in_force: bool) {
        self.keys_read.set(i64::from(in_force));
    }

    /// The text of `/metrics`.
    pub fn render(&self, pool: &sqlx::PgPool) -> Result<String, std::fmt::Error> {
        self.connections.set(i64::from(pool.size()));
        self.max_connections.set(i64::from(pool.options().get_max_connections()));
        self.idle_connections.set(i64::try_from(pool.num_idle()).unwrap_or(i64::MAX));
        self.former.note_pool(pool);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
