//! What niks3 1.7 told, by its names: dashboards made for it go on. What it told by a name that stands in the parent
//! is not here.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use niks3_protocol::api::cache_config::CacheStats;
use niks3_protocol::api::gc::GcStats;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// A gauge that is absent while nobody knows its value.
type Known = Family<NoLabels, Gauge>;

type NoLabels = [(&'static str, &'static str); 0];

/// Metrics of niks3 1.7 that have another name here, or none.
#[derive(Debug, Default)]
pub struct Former {
    objects: Known,
    bytes: Known,
    pending: Known,
    in_use: Gauge,
    max: Gauge,
    runs: Family<ResultLabels, Counter>,
    deleted: Counter<u64, AtomicU64>,
    last_run: Known,
}

impl Former {
    pub(super) fn register(&self, registry: &mut Registry, under_way: Gauge) {
        registry.register("cache_objects", "Live objects", self.objects.clone());
        registry.register("cache_logical_bytes", "Bytes of their NARs, uncompressed", self.bytes.clone());
        registry.register("pending_closures", "Uploads under way", self.pending.clone());
        registry.register("db_connections_in_use", "Connections that calls have", self.in_use.clone());
        registry.register("db_connections_max", "Connections there may be", self.max.clone());
        registry.register("http_requests_in_flight", "HTTP requests not answered yet", under_way);
        registry.register("gc_runs", "Collections, by how they ended", self.runs.clone());
        registry.register("gc_objects_deleted", "Objects that collections deleted", self.deleted.clone());
        registry.register(
            "gc_last_run_timestamp_seconds",
            "When a collection of this server last succeeded; absent until one has",
            self.last_run.clone(),
        );
    }

    /// Notes what the cache holds, and the uploads under way; none where the database does not tell.
    pub fn note_inventory(&self, counted: Option<(CacheStats, i64)>) {
        let Some((CacheStats { objects, logical_bytes }, pending)) = counted else {
            self.objects.clear();
            self.bytes.clear();
            self.pending.clear();
            return;
        };
        for (gauge, value) in
            [(&self.objects, objects), (&self.bytes, logical_bytes), (&self.pending, pending)]
        {
            gauge.get_or_create(&[]).set(value);
        }
    }

    pub(super) fn note_pool(&self, pool: &sqlx::PgPool) {
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        self.in_use.set(pool.size().saturating_sub(idle).into());
        self.max.set(pool.options().get_max_connections().into());
    }

    pub(super) fn count_collection(&self, succeeded: bool, stats: &GcStats) {
        let result = if succeeded { "succeeded" } else { "failed" };
        self.runs.get_or_create(&ResultLabels { result }).inc();
        self.deleted.inc_by(stats.objects_deleted_after_grace_period.unsigned_abs());
        if succeeded {
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO).as_secs();
            self.last_run.get_or_create(&[]).set(i64::try_from(now).unwrap_or(i64::MAX));
        }
    }
}
