//! A cache that speaks TLS itself: its certificate is exchanged while a pod pushes, and the same pods serve the new one.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::NAMESPACE;
use super::pushing::Pushing;
use crate::cluster::Cluster;
use crate::jobs;
use crate::teller::Teller;

const NAME: &str = "tls";
const SECRET: &str = "tls-certificate";
const PODS: &str = "pods -l app.kubernetes.io/instance=tls,app.kubernetes.io/component=server";
const PUSHING: Pushing = Pushing("life-tls");
/// A kubelet takes a minute or two to bring a Secret.
const LIMIT: Duration = Duration::from_mins(4);

/// The cache, and who signs its certificates.
pub(super) struct Speaker {
    issuer: Issuer<'static, KeyPair>,
    ca: String,
    /// Its pods when the certificate was exchanged.
    pods: Vec<(Value, Value)>,
}

/// Declares it. It becomes ready while the story goes on.
pub(super) fn declare(cluster: &Cluster<'_>) -> anyhow::Result<Speaker> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named("the story's CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key)?.pem();
    let speaker = Speaker { issuer: Issuer::new(params, key), ca, pods: Vec::new() };
    speaker.certify(cluster, "first")?;
    let rule = json!({"name": "ci", "permissions": ["Push", "Pin"], "pins": ["ci-*"],
        "serviceAccounts": [{"namespace": jobs::NAMESPACE, "name": "builder"}]});
    cluster.apply(&json!({
        "apiVersion": "niks3.dev/v1alpha1", "kind": "BinaryCache",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "storage": {"embedded": {"size": "1Gi"}},
            "database": {"embedded": {"size": "1Gi"}},
            "auth": {"kubernetes": {"rules": [rule]}},
            "server": {"replicas": 1, "readProxy": {"mode": "Proxy"}, "tls": {"secretName": SECRET}},
        },
    }))?;
    Ok(speaker)
}

impl Speaker {
    /// Lets a pod push to it, and gives it another certificate.
    pub(super) fn exchange(&mut self, cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
        cluster.show(&format!(
            "kubectl wait --for=condition=Ready binarycache/{NAME} -n {NAMESPACE} --timeout=3m"
        ))?;
        let status = cluster.get(&format!("binarycache {NAME} -n {NAMESPACE}"))?["status"].clone();
        let text = |field: &str| status[field].as_str().context("the status lacks a field");
        let (endpoint, audience) = (text("endpoint")?, text("authAudience")?);
        ensure!(endpoint == format!("https://{NAME}.{NAMESPACE}.svc"), "it is told to be at {endpoint}");
        let client = cluster.get(&format!("configmap {NAME}-client -n {NAMESPACE}"))?["data"].clone();
        ensure!(client["ca.crt"] == self.ca.as_str(), "clients are not told the CA");
        PUSHING.begin(cluster, teller, (endpoint, audience), Some(&self.ca))?;
        ensure!(served(cluster, "first")?, "the first certificate is not what is served");
        self.pods = pods(cluster)?;
        teller.command(&format!("kubectl apply: Secret {SECRET} with another certificate of the same CA"));
        self.certify(cluster, "second")
    }

    /// Waits until the new certificate is served, by the same pods.
    pub(super) fn served(self, cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
        cluster.wait("the second certificate", LIMIT, || Ok(served(cluster, "second")?.then_some(())))?;
        PUSHING.goes_on(cluster, teller, "the new certificate is served")?;
        PUSHING.end(cluster, teller)?;
        let after = pods(cluster)?;
        ensure!(after == self.pods, "pods were replaced or restarted: {:?}, {after:?}", self.pods);
        teller.holds("no pod was replaced, and none restarted");
        cluster.run(&format!("kubectl delete binarycache {NAME} -n {NAMESPACE}"), None).map(drop)
    }

    /// Puts a certificate of this name where the cache looks for it.
    fn certify(&self, cluster: &Cluster<'_>, name: &str) -> anyhow::Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![format!("{NAME}.{NAMESPACE}.svc")])?;
        params.distinguished_name = named(name);
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        cluster.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": SECRET, "namespace": NAMESPACE},
            "stringData": {"tls.crt": certificate, "tls.key": key.serialize_pem(), "ca.crt": self.ca},
        }))
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// Whether the last push was served with the certificate of this name.
fn served(cluster: &Cluster<'_>, name: &str) -> anyhow::Result<bool> {
    let said = PUSHING.lines(cluster, "SERVED ", "the certificate is exchanged")?;
    Ok(said.last().is_some_and(|subject| subject.ends_with(name)))
}

/// Which pods serve, and how often their container was started anew.
fn pods(cluster: &Cluster<'_>) -> anyhow::Result<Vec<(Value, Value)>> {
    let pods = cluster.get(&format!("{PODS} -n {NAMESPACE}"))?["items"].clone();
    let all = pods.as_array().into_iter().flatten();
    let all: Vec<_> = all
        .map(|pod| {
            let restarts = pod["status"]["containerStatuses"][0]["restartCount"].clone();
            (pod["metadata"]["uid"].clone(), restarts)
        })
        .collect();
    ensure!(!all.is_empty(), "no pod serves");
    Ok(all)
}
