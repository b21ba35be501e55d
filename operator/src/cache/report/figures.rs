//! Pure: how much a cache holds, as its status says it.

use k8s_openapi::jiff::Timestamp;
use niks3_protocol::api::cache_config::CacheStats;

use crate::crd::BinaryCacheStatus;
use crate::scaled::{Scaled, scaled};

/// The status says how much the cache holds at most so often.
const STATS_AGE: i64 = 300;

/// A status is no place for what changes all the time: a new figure waits five minutes, unless it is the first
/// object or the last.
pub(super) fn worth_telling(old: &BinaryCacheStatus, stats: CacheStats, now: Timestamp) -> bool {
    let (Some(objects), Some(bytes)) = (old.objects, old.bytes) else { return true };
    if (objects == 0) != (stats.objects == 0) {
        return true;
    }
    let told: Option<Timestamp> = old.stats_time.as_ref().and_then(|time| time.parse().ok());
    let old_enough = told.is_none_or(|told| now.as_second() - told.as_second() >= STATS_AGE);
    let differs = |a: i64, b: i64| a.abs_diff(b) > a.unsigned_abs() / 100;
    old_enough && (differs(objects, stats.objects) || differs(bytes, stats.logical_bytes))
}

/// Bytes for people, as Kubernetes writes quantities: `1.2Gi`.
pub(super) fn size(bytes: i64) -> String {
    let Scaled { value, tenths, unit } = scaled(bytes);
    match tenths.filter(|_| value < 100) {
        Some(tenths) => format!("{value}.{tenths}{unit}"),
        None => format!("{value}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status;

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 1023, 1024, 1536, 250 << 20, 5 << 30, 3 << 50];
        assert_eq!(sizes.map(size), ["0", "1023", "1.0Ki", "1.5Ki", "250Mi", "5.0Gi", "3Pi"]);
    }

    #[test]
    fn figures_are_told_rarely() {
        let now = Timestamp::from_second(1000).unwrap();
        let stats = |objects| CacheStats { objects, logical_bytes: objects };
        let old = |objects, at| BinaryCacheStatus {
            objects: Some(objects),
            bytes: Some(objects),
            stats_time: Some(status::timestamp(Timestamp::from_second(at).unwrap())),
            ..BinaryCacheStatus::default()
        };
        assert!(worth_telling(&BinaryCacheStatus::default(), stats(0), now));
        assert!(worth_telling(&old(0, 999), stats(1), now));
        assert!(!worth_telling(&old(100, 999), stats(200), now));
        assert!(worth_telling(&old(100, 700), stats(200), now));
        assert!(!worth_telling(&old(1000, 700), stats(1001), now));
    }
}
