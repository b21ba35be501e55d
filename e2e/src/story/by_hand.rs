//! What people do by hand: `kubectl niks3`, whose Jobs run beside the cache as the operator's do.

use anyhow::ensure;

use super::{Closures, NAMESPACE};
use crate::cluster::Cluster;
use crate::teller::Teller;

pub(super) fn look(cluster: &Cluster<'_>, teller: &Teller, closures: &Closures) -> anyhow::Result<()> {
    let (ready, why) =
        (format!("BinaryCache {NAMESPACE}/main: ready"), format!("why {} --cache main", closures.pinned));
    for (line, expected) in [
        ("status main", ready.as_str()),
        (&why, "ci-main"),
        ("migrate main", "are up to date"),
        ("gc nightly --dry-run", "dry run: "),
    ] {
        let said = cluster.show(&format!("kubectl niks3 {line} -n {NAMESPACE}"))?;
        ensure!(said.contains(expected), "it does not say {expected:?}");
    }
    let mut left = cluster.names(&format!("jobs -n {NAMESPACE}"))?;
    left.retain(|job| job.contains("-why-") || job.contains("-migrate-"));
    ensure!(left.is_empty(), "Jobs are left behind: {left:?}");
    teller.holds("each ran where the cache runs, and left nothing behind");
    Ok(())
}
