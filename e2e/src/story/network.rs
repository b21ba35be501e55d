//! NetworkPolicies keep out whom they do not name, where the cluster's network enforces them. Where it does not, that is
//! said, and pushes go on beside them.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::NAMESPACE;
use super::changes::{LIFE, SERVERS, patch};
use super::set_up::{MARK, namespace_object};
use crate::cluster::{Cluster, condition_of_now};
use crate::jobs;
use crate::teller::Teller;

/// No rule of the cache names it.
pub(super) const ELSEWHERE: &str = "elsewhere";
/// Where pods are asked whom they reach.
const OUTSIDER: &str = "-n elsewhere outsider";
const POSTGRES: &str = "-n nix main-postgres-0";
const PORT: u16 = 8443;
const LIMIT: Duration = Duration::from_mins(1);
/// A network that enforces policies has done so by then.
const PATIENCE: Duration = Duration::from_secs(15);

/// What there is to reach, in the order of `Reached`.
struct Targets([String; 4]);

/// The Service, a pod of the server (its metrics are at the same port), S3, PostgreSQL.
type Reached = [bool; 4];

const ALL: Reached = [true; 4];
const NONE: Reached = [false; 4];
const WHAT_CLIENTS_NEED: Reached = [true, true, true, false];

/// Lets CI in and nobody else.
pub(super) fn limit(cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
    cluster.apply(&namespace_object(ELSEWHERE))?;
    cluster.run(&format!("kubectl label namespace {ELSEWHERE} {MARK}=true --overwrite"), None)?;
    cluster.apply(&pod("outsider", "exec sleep infinity"))?;
    cluster.apply(&pod("wall", &format!("exec openssl s_server -nocert -quiet -accept {PORT}")))?;
    cluster
        .run(&format!("kubectl wait --for=condition=Ready pod --all -n {ELSEWHERE} --timeout=1m"), None)?;
    let targets = Targets::find(cluster)?;
    ensure!(targets.from(cluster, OUTSIDER)? == ALL, "without policies everybody should get everywhere");
    let enforced = enforces(cluster)?;

    let admit = |peers: &Value| {
        let network = json!({"mode": "Enabled", "ingressFrom": peers});
        patch(cluster, &json!({"spec": {"server": {"networkPolicy": network}}}).to_string())
    };
    let only_ci = json!([of_namespace(jobs::NAMESPACE)]);
    admit(&only_ci)?;
    cluster.wait("the NetworkPolicies", LIMIT, || {
        Ok((cluster.names(&format!("networkpolicy -n {NAMESPACE}"))?.len() >= 4).then_some(()))
    })?;
    cluster.show(&format!("kubectl get networkpolicy -n {NAMESPACE}"))?;
    if enforced {
        targets.become_for(cluster, OUTSIDER, NONE)?;
        teller.holds(
            "a pod of a namespace that no rule names reaches neither server, metrics, S3 nor PostgreSQL",
        );
        let ci = format!("-n {} job/{}", jobs::NAMESPACE, LIFE.0);
        targets.become_for(cluster, &ci, WHAT_CLIENTS_NEED)?;
        teller.holds("a CI pod reaches the server and S3, which it uploads to, and not PostgreSQL");
        targets.become_for(cluster, POSTGRES, [false, false, false, true])?;
        teller.holds("PostgreSQL reaches nobody but itself");

        admit(&json!([of_namespace(jobs::NAMESPACE), of_namespace(ELSEWHERE)]))?;
        targets.become_for(cluster, OUTSIDER, WHAT_CLIENTS_NEED)?;
        teller.holds("ingressFrom opens the server and S3 to whom it names, and nothing else");
        admit(&only_ci)?;
        targets.become_for(cluster, OUTSIDER, NONE)?;
    } else {
        ensure!(!cluster.is_own()?, "e2e/cluster/own/policies does not enforce NetworkPolicies");
        teller.not_shown("that NetworkPolicies keep anybody out: this cluster's network enforces none");
    }
    cluster.run(&format!("kubectl delete namespace {ELSEWHERE} --wait=false"), None)?;
    LIFE.goes_on(cluster, teller, "who may speak to whom is limited")
}

/// Whether the network keeps apart what a policy keeps apart.
fn enforces(cluster: &Cluster<'_>) -> anyhow::Result<bool> {
    let wall = format!("{}:{PORT}", address(cluster, ELSEWHERE, "wall")?);
    let open = || reaches(cluster, OUTSIDER, &[&wall]).map(|reached| reached == [true]);
    cluster.wait("a pod that listens", LIMIT, || Ok(open()?.then_some(())))?;
    cluster.apply(&json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "wall", "namespace": ELSEWHERE},
        "spec": {"podSelector": {"matchLabels": {"app": "wall"}}, "policyTypes": ["Ingress"]},
    }))?;
    let closed = cluster.wait("a wall", PATIENCE, || Ok((!open()?).then_some(())));
    match closed {
        Ok(()) => Ok(true),
        // Not because of anything else.
        Err(_) => open().and_then(|open| {
            ensure!(open, "the network's mind changed after {} s", PATIENCE.as_secs());
            Ok(false)
        }),
    }
}

impl Targets {
    fn find(cluster: &Cluster<'_>) -> anyhow::Result<Self> {
        let service = cluster.get(&format!("service main -n {NAMESPACE}"))?;
        let service = service["spec"]["clusterIP"].as_str().context("a Service without address")?;
        let servers = cluster.get(&format!("{SERVERS} -n {NAMESPACE}"))?;
        // One that a rollout has just replaced may be there still, and listens no more.
        let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        let server = servers["items"].as_array().and_then(|pods| pods.iter().find(stays));
        let server =
            server.and_then(|pod| pod["status"]["podIP"].as_str()).context("a pod without address")?;
        let of = |name: &str| address(cluster, NAMESPACE, name);
        Ok(Self([
            format!("{service}:80"),
            format!("{server}:5751"),
            format!("{}:7070", of("main-s3-0")?),
            format!("{}:5432", of("main-postgres-0")?),
        ]))
    }

    fn from(&self, cluster: &Cluster<'_>, pod: &str) -> anyhow::Result<Reached> {
        let reached = reaches(cluster, pod, &self.0.each_ref().map(String::as_str))?;
        reached.try_into().map_err(|reached| anyhow::anyhow!("{pod} answered for {reached:?}"))
    }

    /// Waits until the network has heard of it.
    fn become_for(&self, cluster: &Cluster<'_>, pod: &str, wanted: Reached) -> anyhow::Result<()> {
        let mut last = NONE;
        let came = cluster.wait("the network", LIMIT, || {
            last = self.from(cluster, pod)?;
            Ok((last == wanted).then_some(()))
        });
        let targets = &self.0;
        came.with_context(|| format!("{pod} should reach {wanted:?} of {targets:?} and reaches {last:?}"))
    }
}

/// Which of these addresses a pod gets a connection to.
fn reaches(cluster: &Cluster<'_>, pod: &str, targets: &[&str]) -> anyhow::Result<Vec<bool>> {
    let script = format!(
        "for at in {}; do (timeout 3 bash -c \"exec 3<>/dev/tcp/${{at%:*}}/${{at##*:}}\" && echo \"$at\") 2> /dev/null & done; wait",
        targets.join(" ")
    );
    let told = cluster.run(&format!("kubectl exec {pod} -- bash -c '{script}'"), None)?;
    Ok(targets.iter().map(|target| told.lines().any(|line| line == *target)).collect())
}

/// The operator knows of database and S3 from the pods, and not only that these say they are ready. A connection that it has
/// outlives a policy, so this shows something once the pods are others.
pub(super) fn operator_asks(cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
    let found: Value = cluster.wait("a look at the cache as it is now", LIMIT, || {
        let cache = cluster.get(&format!("binarycache main -n {NAMESPACE}"))?;
        Ok(condition_of_now(&cache, "DatabaseReady").cloned())
    })?;
    ensure!(found["reason"] == "Reachable", "the operator does not get to the pods: {found}");
    teller.holds("the operator still knows of database and S3 from the server's pods");
    Ok(())
}

/// Of a pod.
pub(super) fn address(cluster: &Cluster<'_>, namespace: &str, pod: &str) -> anyhow::Result<String> {
    let pod = cluster.get(&format!("pod {pod} -n {namespace}"))?;
    pod["status"]["podIP"].as_str().map(str::to_owned).context("a pod without address")
}

fn of_namespace(name: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}})
}

fn pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": ELSEWHERE, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "securityContext": jobs::restricted(),
            "containers": [jobs::container(script)],
        },
    })
}
