//! The operator is installed by the chart of the last release, makes a cache under it, and is upgraded to this one's while a
//! pod pushes.
//!
//! The image of then is not there, so the operator is this one under the rights and definitions of then. What it wants to read
//! and to say beyond them it cannot, so before the upgrade the cache serves without being called ready.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::NAMESPACE;
use super::pushing::Pushing;
use super::set_up::{CHART, helm_of};
use crate::cluster::{Cluster, condition};
use crate::jobs;
use crate::teller::Teller;

const PREVIOUS: &str = "charts/previous/niks3-operator-0.1.0.tgz";
const NAME: &str = "before";
const PUSHING: Pushing = Pushing("upgrade");
const LIMIT: Duration = Duration::from_mins(4);

pub(super) fn from_the_previous_chart(cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
    helm_of(cluster, "install", PREVIOUS, "")?;
    declare(cluster, teller)?;
    cluster.wait("servers under the previous chart", LIMIT, || {
        let deployment = cluster.find(&format!("deployment {NAME} -n {NAMESPACE}"))?.unwrap_or_default();
        Ok((deployment["status"]["readyReplicas"] == 2).then_some(()))
    })?;
    let said = condition(&cache(cluster)?, "Ready").clone();
    let text = |field: &str| said[field].as_str().unwrap_or_default();
    teller.output(&format!("Ready: {}, {}: {}", text("status"), text("reason"), text("message")));
    let (endpoint, audience) =
        (format!("http://{NAME}.{NAMESPACE}.svc"), format!("niks3.dev/{NAMESPACE}/{NAME}"));
    PUSHING.begin(cluster, teller, (&endpoint, &audience), None)?;
    let (served, runs) = (available(cluster)?, pods(cluster)?);

    helm_of(cluster, "upgrade", CHART, "")?;
    cluster.show(&format!(
        "kubectl wait --for=condition=Ready binarycache/{NAME} -n {NAMESPACE} --timeout=2m"
    ))?;
    let ready = throughout(&cache(cluster)?, "Ready")?;
    PUSHING.goes_on(cluster, teller, "the previous chart's operator was upgraded to this one")?;
    PUSHING.end(cluster, teller)?;
    ensure!(available(cluster)? == served, "it was not served all the time");
    ensure!(throughout(&cache(cluster)?, "Ready")? == ready, "it was ready, and then was not");
    let after = pods(cluster)?;
    ensure!(after == runs, "pods were replaced or restarted: {runs:?}, {after:?}");
    teller.holds("the cache of the previous chart was served throughout, by the same pods, and is ready");
    remove(cluster)
}

/// A small cache that CI may push to, of fields that the definitions of then have.
fn declare(cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
    teller.command(&format!("kubectl apply: BinaryCache {NAME} with embedded servers"));
    let rule = json!({"name": "ci", "permissions": ["Push", "Pin"], "pins": ["ci-*"],
        "serviceAccounts": [{"namespace": jobs::NAMESPACE, "name": "builder"}]});
    cluster.apply(&json!({
        "apiVersion": "niks3.dev/v1alpha1", "kind": "BinaryCache",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "storage": {"embedded": {"size": "1Gi"}},
            "database": {"embedded": {"size": "1Gi"}},
            "auth": {"kubernetes": {"rules": [rule]}},
            "server": {"readProxy": {"mode": "Proxy"}},
        },
    }))
}

/// As docs/running.md removes a cache for good: the story's own is to be alone.
fn remove(cluster: &Cluster<'_>) -> anyhow::Result<()> {
    let delete = |what: &str| cluster.run(&format!("kubectl delete {what} -n {NAMESPACE}"), None);
    delete(&format!("binarycache {NAME} --cascade=foreground"))?;
    delete(&format!("pvc data-{NAME}-s3-0 data-{NAME}-postgres-0"))?;
    delete(&format!(
        "secret -l app.kubernetes.io/instance={NAME},app.kubernetes.io/managed-by=niks3-operator"
    ))
    .map(drop)
}

fn cache(cluster: &Cluster<'_>) -> anyhow::Result<Value> {
    cluster.get(&format!("binarycache {NAME} -n {NAMESPACE}"))
}

/// Since when the Deployment has the pods that it needs.
fn available(cluster: &Cluster<'_>) -> anyhow::Result<String> {
    throughout(&cluster.get(&format!("deployment {NAME} -n {NAMESPACE}"))?, "Available")
}

/// Since when a condition is true. Where it is the same time later, it was true all the while: that time is of the last change.
pub(super) fn throughout(object: &Value, kind: &str) -> anyhow::Result<String> {
    let found = condition(object, kind);
    ensure!(found["status"] == "True", "{kind} is not true: {found}");
    found["lastTransitionTime"].as_str().map(str::to_owned).context("a condition without its time")
}

/// All pods of the cache, and how often their containers were started anew.
fn pods(cluster: &Cluster<'_>) -> anyhow::Result<Vec<(Value, Value)>> {
    let pods = cluster.get(&format!("pods -l app.kubernetes.io/instance={NAME} -n {NAMESPACE}"))?;
    let all = pods["items"].as_array().into_iter().flatten();
    let all: Vec<_> = all
        .map(|pod| {
            let restarts = pod["status"]["containerStatuses"][0]["restartCount"].clone();
            (pod["metadata"]["uid"].clone(), restarts)
        })
        .collect();
    ensure!(all.len() == 4, "two servers, S3 and PostgreSQL, not {} pods", all.len());
    Ok(all)
}
