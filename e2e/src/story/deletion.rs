//! Step 10: what goes with a cache and what stays.

use std::time::Duration;

use anyhow::ensure;

use super::NAMESPACE;
use crate::cluster::Cluster;
use crate::teller::Teller;

/// Everything a cache is made of, but what must stay; and a Job that somebody asked for belongs to its policy.
const CHILDREN: [&str; 2] = [
    "deployment,statefulset,service,configmap,cronjob -l app.kubernetes.io/instance=main",
    "pod -l app.kubernetes.io/instance=main,app.kubernetes.io/component!=gc",
];
const LIMIT: Duration = Duration::from_mins(2);

pub(super) fn delete(cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
    cluster.show(&format!("kubectl delete binarycache main -n {NAMESPACE}"))?;
    cluster.wait("the children to go", LIMIT, || {
        for children in CHILDREN {
            if !cluster.names(&format!("{children} -n {NAMESPACE}"))?.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    cluster.show(&format!("kubectl get secret,pvc -n {NAMESPACE}"))?;
    let kept = cluster.names(&format!("secret,pvc -n {NAMESPACE}"))?;
    for name in [
        "secret/main-signing-1",
        "persistentvolumeclaim/data-main-s3-0",
        "persistentvolumeclaim/data-main-postgres-0",
    ] {
        ensure!(kept.iter().any(|kept| kept == name), "{name} is gone: {kept:?}");
    }
    teller.holds("the children are gone; the signing key and the volumes stayed");
    Ok(())
}
