//! Asks a pod of the server what it has and what it lacks. Not the Service: a pod that lacks something is not
//! ready, and a Service leads to ready pods alone. The operator so needs neither credentials of database and
//! bucket nor a way to them.

use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use niks3_protocol::api::cache_config::CacheStats;
use niks3_protocol::api::health::{Dependency, IssuerState, KeysInForce, Readiness};
use niks3_protocol::api::resign::ResignStatus;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::labels::Component;

use super::build::SERVER_PORT;
use super::pods::Pods;

/// The limit on one question.
const TIMEOUT: Duration = Duration::from_secs(4);
/// How many pods are asked before giving up.
const MAX_PODS: usize = 3;
/// Pods that are asked for their keys at a time.
const AT_ONCE: usize = 8;

/// Asks the caches' servers.
#[derive(Debug, Clone)]
pub struct Probe {
    http: reqwest::Client,
}

impl Default for Probe {
    fn default() -> Self {
        // As a kubelet does: a pod has no name that a certificate could be for, and nothing secret is sent or heard.
        let http = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build();
        Self { http: http.unwrap_or_default() }
    }
}

/// What a pod answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The pod.
    pub pod: String,
    /// What it has and what it lacks.
    pub readiness: Readiness,
    /// How much the cache holds.
    pub stats: Option<CacheStats>,
    /// How far stored narinfos are signed again.
    pub resign: Option<ResignStatus>,
}

/// Asks one pod after the other until one answers; otherwise says why none did.
pub async fn ask(pods: &Pods, tls: bool, context: &Context) -> Result<Answer, String> {
    let mut why = "no pod of the server runs yet".to_owned();
    for (pod, address) in running(pods).take(MAX_PODS) {
        match context.probe.ask_at(pod.name_any(), &base(address, tls)).await {
            Ok(answer) => return Ok(answer),
            Err(error) => why = format!("the server does not answer: {}", error.without_url()),
        }
    }
    Err(why)
}

/// The keys that a pod has: those in force to sign with, and those of issuers, to judge tokens by.
#[derive(Debug, Clone)]
pub struct PodKeys {
    /// The pod.
    pub pod: String,
    /// What it says; nothing where it does not answer, or is of a version before it could.
    pub said: Option<KeysInForce>,
    /// Why it does not take what its files hold.
    pub problem: Option<String>,
    /// Whether issuers gave it theirs; nothing where it does not answer, or is of a version before it could tell.
    pub issuers: Option<Vec<IssuerState>>,
}

/// Asks all pods but the one that answered just now which keys they have. Not those that have mounted nothing
/// yet: they begin with those of then.
pub async fn keys(pods: &Pods, answered: Option<&Answer>, tls: bool, context: &Context) -> Vec<PodKeys> {
    let all = pods.of(Component::Server).filter(|pod| has_files(pod)).map(|pod| async move {
        let answered = answered.filter(|answer| answer.pod == pod.name_any());
        let said = match (answered, address(pod)) {
            (Some(answer), _) => Some(answer.readiness.clone()),
            (None, Some(address)) => context.probe.readiness(&base(address, tls)).await.ok(),
            (None, None) => None,
        };
        let check = said.iter().flat_map(|said| &said.checks);
        let check = check.filter(|check| check.name == Dependency::SigningKeys);
        let problem = check.map(|check| check.message.clone()).find(|message| !message.is_empty());
        let (said, issuers) = said.map(|said| (said.signing, said.issuers)).unwrap_or_default();
        PodKeys { pod: pod.name_any(), said, problem, issuers }
    });
    let all: Vec<_> = all.collect();
    futures::stream::iter(all).buffered(AT_ONCE).collect().await
}

fn has_files(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    phase == Some("Running") || (placed && !matches!(phase, Some("Succeeded" | "Failed")))
}

fn base(address: IpAddr, tls: bool) -> String {
    let host = match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    format!("{}://{host}:{SERVER_PORT}", if tls { "https" } else { "http" })
}

impl Probe {
    async fn ask_at(&self, pod: String, base: &str) -> reqwest::Result<Answer> {
        let readiness = self.readiness(base).await?;
        let stats = self.get(&format!("{base}/api/cache-stats")).await.ok();
        let resign = self.get(&format!("{base}/api/resign")).await.ok();
        Ok(Answer { pod, readiness, stats, resign })
    }

    /// 503 has the same body: it says what is missing.
    async fn readiness(&self, base: &str) -> reqwest::Result<Readiness> {
        self.get(&format!("{base}/readyz?verbose")).await
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> reqwest::Result<T> {
        self.http.get(url).timeout(TIMEOUT).send().await?.json().await
    }
}

/// Those that have an address, the newest first.
fn running(pods: &Pods) -> impl Iterator<Item = (&Pod, IpAddr)> {
    pods.of(Component::Server).filter_map(|pod| Some((pod, address(pod)?)))
}

fn address(pod: &Pod) -> Option<IpAddr> {
    let status = pod.status.as_ref()?;
    (status.phase.as_deref() == Some("Running")).then(|| status.pod_ip.as_ref()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use crate::labels;

    use super::*;

    #[test]
    fn only_running_pods_are_asked_the_newest_first() {
        let pod = |created: &str, phase: &str, ip: &str| -> Pod {
            serde_json::from_value(serde_json::json!({
                "metadata": {"creationTimestamp": created, "labels": labels::labels("main", Component::Server)},
                "status": {"phase": phase, "podIP": ip}
            }))
            .unwrap()
        };
        let pods = [
            pod("2026-01-01T00:00:00Z", "Running", "10.0.0.1"),
            pod("2026-01-03T00:00:00Z", "Pending", "10.0.0.2"),
            pod("2026-01-02T00:00:00Z", "Running", "fd00::3"),
        ];
        let pods = Pods::new(pods.to_vec());
        let addresses: Vec<String> = running(&pods).map(|(_, address)| address.to_string()).collect();
        assert_eq!(addresses, ["fd00::3", "10.0.0.1"]);
    }
}
