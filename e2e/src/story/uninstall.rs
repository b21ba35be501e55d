//! The operator is removed and installed again.

use anyhow::ensure;

use super::changes::{SERVERS, ready};
use super::set_up::{OPERATOR_NAMESPACE, helm};
use super::{Cache, Closures, NAMESPACE, reading};
use crate::cluster::Cluster;
use crate::teller::Teller;

pub(super) fn leave_and_return(
    cluster: &Cluster<'_>,
    teller: &Teller,
    cache: &Cache,
    closures: &Closures,
) -> anyhow::Result<()> {
    let before = cluster.names(&format!("{SERVERS} -n {NAMESPACE}"))?;
    cluster.show(&format!("helm uninstall niks3 -n {OPERATOR_NAMESPACE} --wait"))?;
    cluster.show(&format!("kubectl get nix -n {NAMESPACE}"))?;
    reading::read_back(cluster, teller, cache, closures)?;
    helm(cluster, "install", "")?;
    cluster.show(&format!("helm test niks3 -n {OPERATOR_NAMESPACE} --timeout 2m"))?;
    // That it looks after the cache again shows in what it does next.
    cluster.show(&format!("kubectl scale binarycache/main -n {NAMESPACE} --replicas=2"))?;
    ready(cluster, 2)?;
    let after = cluster.names(&format!("{SERVERS} -n {NAMESPACE}"))?;
    ensure!(before.iter().all(|pod| after.contains(pod)), "pods were replaced: {before:?}, {after:?}");
    teller.holds("caches were served without the operator, and it took them up again without touching a pod");
    Ok(())
}
