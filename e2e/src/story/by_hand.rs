//! What people do by hand: `kubectl niks3`, whose Jobs run beside the cache as the operator's do.

use anyhow::ensure;

use super::{Closures, NAMESPACE};
use crate::cluster::Cluster;
use crate::teller::Teller;

pub(super) fn look(cluster: &Cluster<'_>, teller: &Teller, closures: &Closures) -> anyhow::Result<()> {
    let root = &closures.pinned;
    for (line, expected) in [
        (format!("status main -n {NAMESPACE}"), format!("BinaryCache {NAMESPACE}/main: ready")),
        (format!("why {root} -n {NAMESPACE} --cache main"), "ci-main".to_owned()),
        (format!("migrate main -n {NAMESPACE}"), "are up to date".to_owned()),
        (format!("gc nightly -n {NAMESPACE} --dry-run"), "dry run: ".to_owned()),
    ] {
        let said = cluster.show(&format!("kubectl niks3 {line}"))?;
        ensure!(said.contains(&expected), "it does not say {expected:?}");
    }
    let left = cluster.names(&format!("jobs -n {NAMESPACE}"))?;
    let by_hand = |name: &&String| name.contains("-why-") || name.contains("-migrate-");
    ensure!(!left.iter().any(|name| by_hand(&name)), "Jobs are left behind: {left:?}");
    teller.holds("each ran where the cache runs, and left nothing behind");
    Ok(())
}
