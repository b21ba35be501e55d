//! What a cache goes through in its life, while CI goes on pushing to it: not one push may fail.

use std::time::Duration;

use anyhow::ensure;

use super::pushing::Pushing;
use super::{Cache, NAMESPACE, credentials, network, set_up, upgrade, volumes};
use crate::cluster::Cluster;
use crate::teller::Teller;

/// Pushes to the cache that everything under changes.
pub(super) const LIFE: Pushing = Pushing("life");
pub(super) const SERVERS: &str = "pods -l app.kubernetes.io/instance=main,app.kubernetes.io/component=server";
const LIMIT: Duration = Duration::from_mins(4);

pub(super) fn begin_pushing(cluster: &Cluster<'_>, teller: &Teller, cache: &Cache) -> anyhow::Result<()> {
    LIFE.begin(cluster, teller, (&cache.endpoint, &cache.audience), None)
}

pub(super) fn go_through(cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
    for replicas in [1, 3, 1] {
        cluster.show(&format!("kubectl scale binarycache/main -n {NAMESPACE} --replicas={replicas}"))?;
        ready(cluster, replicas)?;
    }
    LIFE.goes_on(cluster, teller, "scaled to 1, 3 and 1")?;

    let next = Cluster::image("niks3").replace(":e2e", ":next");
    patch(cluster, &format!(r#"{{"spec": {{"server": {{"image": "{next}"}}}}}}"#))?;
    rolled(cluster, &next)?;
    LIFE.goes_on(cluster, teller, "another image")?;

    network::limit(cluster, teller)?;

    for server in ["postgres", "s3"] {
        cluster.show(&format!("kubectl delete pod main-{server}-0 -n {NAMESPACE} --wait"))?;
        restarted(cluster, &format!("main-{server}"))?;
    }
    LIFE.goes_on(cluster, teller, "database and S3 were restarted")?;

    credentials::follow(cluster, teller)?;

    volumes::grow(cluster, teller)?;
    network::operator_asks(cluster, teller)?;

    let ready = || upgrade::throughout(&cluster.get(&format!("binarycache main -n {NAMESPACE}"))?, "Ready");
    let since = cluster.wait("the cache to be ready again", LIMIT, || Ok(ready().ok()))?;
    set_up::helm(cluster, "upgrade", ",replicas=2,logLevel=debug")?;
    LIFE.goes_on(cluster, teller, "the operator was upgraded")?;
    ensure!(ready()? == since, "the cache was not ready all the time");
    teller.holds("the cache was ready throughout");
    Ok(())
}

pub(super) fn end_pushing(cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
    LIFE.end(cluster, teller)
}

/// Changes the cache's spec.
pub(super) fn patch(cluster: &Cluster<'_>, patch: &str) -> anyhow::Result<()> {
    cluster
        .show(&format!("kubectl patch binarycache main -n {NAMESPACE} --type merge -p '{patch}'"))
        .map(drop)
}

/// Waits until so many pods serve, and no others.
pub(super) fn ready(cluster: &Cluster<'_>, replicas: i64) -> anyhow::Result<()> {
    cluster.wait(&format!("{replicas} ready servers"), LIMIT, || {
        let status = cluster.get(&format!("deployment main -n {NAMESPACE}"))?["status"].clone();
        let is = |field: &str| status[field].as_i64() == Some(replicas);
        Ok((is("replicas") && is("readyReplicas") && is("updatedReplicas")).then_some(()))
    })
}

/// Waits until all pods are of a template that holds this text, and serve.
pub(super) fn rolled(cluster: &Cluster<'_>, text: &str) -> anyhow::Result<()> {
    cluster.wait("the Deployment to change", LIMIT, || {
        let template =
            cluster.get(&format!("deployment main -n {NAMESPACE}"))?["spec"]["template"].to_string();
        Ok(template.contains(text).then_some(()))
    })?;
    cluster.show(&format!("kubectl rollout status deployment/main -n {NAMESPACE} --timeout=4m")).map(drop)
}

/// Waits until an embedded server runs as its StatefulSet says.
pub(super) fn restarted(cluster: &Cluster<'_>, server: &str) -> anyhow::Result<()> {
    let status = format!("kubectl rollout status statefulset/{server} -n {NAMESPACE} --timeout=3m");
    cluster.run(&status, None).map(drop)
}
