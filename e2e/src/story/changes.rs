//! What a cache goes through in its life, while CI goes on pushing to it: not one push may fail.

use std::time::Duration;

use anyhow::{bail, ensure};

use super::{Cache, NAMESPACE, set_up};
use crate::cluster::Cluster;
use crate::jobs::{self, Job};
use crate::teller::Teller;

const JOB: &str = "life";
const LIMIT: Duration = Duration::from_mins(4);

/// One closure after another, each pinned under a name of its own, until it is told that this is enough.
const PUSH: &str = r#"
for ((count = 1; ; count++)); do
  path=$(closure --variant "life-$count" --mib 2 --parts 4)
  niks3 push --pin "$(printf ci-life-%03d "$count")" "$path"
  echo "PUSHED $path"
  [ ! -e /tmp/enough ] || exit 0
done
"#;

pub(super) fn begin_pushing(cluster: &Cluster<'_>, teller: &Teller, cache: &Cache) -> anyhow::Result<()> {
    teller.command("Job life: pushes and pins one closure after another until it is told to stop");
    let env = [("NIKS3_SERVER_URL", cache.endpoint.as_str())];
    Job { name: JOB, account: "builder", env: &env, audience: Some(&cache.audience), script: PUSH }
        .start(cluster)?;
    goes_on(cluster, teller, "pushes have begun")
}

pub(super) fn go_through(cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
    for replicas in [1, 3, 1] {
        cluster.show(&format!("kubectl scale binarycache/main -n {NAMESPACE} --replicas={replicas}"))?;
        ready(cluster, replicas)?;
    }
    goes_on(cluster, teller, "scaled to 1, 3 and 1")?;

    let next = Cluster::image("niks3").replace(":e2e", ":next");
    patch(cluster, &format!(r#"{{"spec": {{"server": {{"image": "{next}"}}}}}}"#))?;
    rolled(cluster, &next)?;
    goes_on(cluster, teller, "another image")?;

    patch(cluster, r#"{"spec": {"server": {"networkPolicy": {"mode": "Enabled"}}}}"#)?;
    cluster.wait("the NetworkPolicies", LIMIT, || {
        Ok((cluster.names(&format!("networkpolicy -n {NAMESPACE}"))?.len() >= 3).then_some(()))
    })?;
    cluster.show(&format!("kubectl get networkpolicy -n {NAMESPACE}"))?;
    goes_on(cluster, teller, "who may speak to whom is limited")?;

    for server in ["postgres", "s3"] {
        cluster.show(&format!("kubectl delete pod main-{server}-0 -n {NAMESPACE} --wait"))?;
        cluster.run(
            &format!("kubectl rollout status statefulset/main-{server} -n {NAMESPACE} --timeout=3m"),
            None,
        )?;
    }
    goes_on(cluster, teller, "database and S3 were restarted")?;

    set_up::helm(cluster, "upgrade", ",replicas=2,logLevel=debug")?;
    goes_on(cluster, teller, "the operator was upgraded")
}

pub(super) fn end_pushing(cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
    cluster.run(&format!("kubectl exec job/{JOB} -n {} -- touch /tmp/enough", jobs::NAMESPACE), None)?;
    let job = jobs::finish(cluster, JOB)?;
    ensure!(job.succeeded, "a push failed:\n{}", job.told());
    teller.holds(&format!("{} pushes, and none of them failed", job.lines("PUSHED").len()));
    Ok(())
}

/// Whether a push that began after a change succeeds.
pub(super) fn goes_on(cluster: &Cluster<'_>, teller: &Teller, what: &str) -> anyhow::Result<()> {
    let pushed = || -> anyhow::Result<usize> {
        // No pod at first.
        let log =
            cluster.run(&format!("kubectl logs job/{JOB} -n {}", jobs::NAMESPACE), None).unwrap_or_default();
        if let Some(failed) =
            cluster.get(&format!("job {JOB} -n {}", jobs::NAMESPACE))?["status"]["failed"].as_i64()
        {
            bail!("{what}: {failed} push failed:\n{log}");
        }
        Ok(log.lines().filter(|line| line.starts_with("PUSHED ")).count())
    };
    let before = pushed()?;
    // One may have been at its end when the change was through, so two.
    cluster.wait("pushes to go on", LIMIT, || Ok((pushed()? >= before + 2).then_some(())))?;
    teller.holds(&format!("{what}, and pushes go on"));
    Ok(())
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
