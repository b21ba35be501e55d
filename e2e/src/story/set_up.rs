//! Steps 1 to 4: cluster, images, operator, cache.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{Cache, NAMESPACE, earlier};
use crate::cluster::Cluster;
use crate::jobs;
use crate::teller::Teller;

/// Namespaces of the story carry it; others are not ours to delete.
pub(super) const MARK: &str = "niks3.dev/demo";
pub(super) const CHART: &str = "charts/niks3-operator";
pub(super) const OPERATOR_NAMESPACE: &str = "niks3-system";

pub(super) fn cluster(cluster: &Cluster<'_>) -> anyhow::Result<()> {
    cluster.script("e2e/cluster/up")?;
    cluster.show("kubectl get nodes")?;
    earlier::remove(cluster)
}

pub(super) fn images(cluster: &Cluster<'_>) -> anyhow::Result<()> {
    cluster.script("e2e/images/build")
}

/// And the accounts of CI.
pub(super) fn namespaces(cluster: &Cluster<'_>) -> anyhow::Result<()> {
    // The strictest profile that Kubernetes has: everything the product runs must live with it. Marked before anything is in
    // them, so that a telling that breaks off here is removed by the next.
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    for namespace in [OPERATOR_NAMESPACE, NAMESPACE, jobs::NAMESPACE] {
        cluster.apply(&namespace_object(namespace))?;
        // Not in the object: what `apply` of the quickstart does not find in its namespace, it would remove.
        cluster
            .run(&format!("kubectl label namespace {namespace} {MARK}=true {enforce} --overwrite"), None)?;
    }
    for account in ["builder", "stranger"] {
        let meta = json!({"name": account, "namespace": jobs::NAMESPACE});
        cluster.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}))?;
    }
    Ok(())
}

/// Installs or upgrades the operator by this tree's chart; `values` are more of them, each after a comma.
pub(super) fn helm(cluster: &Cluster<'_>, verb: &str, values: &str) -> anyhow::Result<()> {
    helm_of(cluster, verb, CHART, values)
}

/// The same by any chart.
pub(super) fn helm_of(cluster: &Cluster<'_>, verb: &str, chart: &str, values: &str) -> anyhow::Result<()> {
    let niks3 = Cluster::image("niks3");
    let (repository, tag) = niks3.rsplit_once(':').context("an image without tag")?;
    let (s3, postgres) = (Cluster::image("versitygw"), Cluster::image("postgres"));
    cluster
        .show(&format!(
            "helm {verb} niks3 {chart} -n {OPERATOR_NAMESPACE} --wait --timeout 3m --set \
             image.repository={repository},image.tag={tag},image.pullPolicy=IfNotPresent,s3Image={s3},postgresImage={postgres}{values}"
        ))
        .map(drop)
}

pub(super) fn cache(cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<Cache> {
    cluster.show("kubectl apply -f manifests/quickstart.yaml")?;
    let waited = cluster
        .show(&format!("kubectl wait --for=condition=Ready binarycache/main -n {NAMESPACE} --timeout=5m"));
    if waited.is_err() {
        cluster.show(&format!("kubectl get pods,events -n {NAMESPACE}"))?;
        cluster.show(&format!("kubectl describe binarycache main -n {NAMESPACE}"))?;
    }
    waited?;
    cluster
        .show(&format!("kubectl wait --for=condition=Ready gcpolicy/nightly -n {NAMESPACE} --timeout=1m"))?;
    cluster.show(&format!("kubectl get nix -n {NAMESPACE}"))?;
    let status = cluster.get(&format!("binarycache main -n {NAMESPACE}"))?["status"].clone();
    let text = |value: &Value| value.as_str().map(str::to_owned).context("the status lacks a field");
    let cache = Cache {
        url: text(&status["url"])?,
        endpoint: text(&status["endpoint"])?,
        audience: text(&status["authAudience"])?,
        public_key: text(&status["publicKeys"][0])?,
    };
    let client = cluster.get(&format!("configmap main-client -n {NAMESPACE}"))?["data"].clone();
    ensure!(client["audience"] == cache.audience, "the client's ConfigMap has another audience");
    ensure!(text(&client["nix.conf"])?.contains(&cache.public_key), "the client's ConfigMap lacks the key");
    teller.holds(&format!("ready: substituters = {}, trusted-public-keys = {}", cache.url, cache.public_key));
    Ok(cache)
}

pub(super) fn namespace_object(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}
