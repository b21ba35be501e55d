//! Who may speak to whom. A policy knows pods and ports, not names: what lies outside of the cache is let through
//! by its port.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cache::validate::{Database, Network, Storage, ValidCache};
use crate::labels::{Component, Names, child, labels, operator_pods, selector};

use super::SERVER_PORT;
use super::embedded::{POSTGRES_PORT, S3_PORT};

/// Rules are applied to where a Service leads: on OpenShift name servers listen at the other one.
const DNS_PORTS: [i32; 2] = [53, 5353];
const HTTPS: u16 = 443;
/// That of the Service `kubernetes`, which some networks look at, and the usual one behind it. Beside them, the one that the API
/// server itself names.
const API_SERVER_PORTS: [u16; 2] = [443, 6443];
/// On every namespace, its name.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) fn policies(cache: &ValidCache) -> Vec<NetworkPolicy> {
    let Some(network) = &cache.network else { return Vec::new() };
    let names = Names(&cache.name);
    let mut policies = vec![
        policy(
            cache,
            names.server(),
            Component::Server,
            vec![clients(network, SERVER_PORT, [pods(cache, Component::Gc), operator(network)])],
            server(cache, network),
        ),
        policy(
            cache,
            names.gc(),
            Component::Gc,
            Vec::new(),
            vec![dns(), to(cache, Component::Server, SERVER_PORT)],
        ),
    ];
    if let Storage::Embedded(_) = &cache.storage {
        // Clients upload to it directly.
        let ingress = vec![clients(network, S3_PORT, [pods(cache, Component::Server)])];
        policies.push(policy(cache, names.s3(), Component::S3, ingress, Vec::new()));
    }
    if let Database::Embedded(_) = &cache.database {
        let ingress = vec![NetworkPolicyIngressRule {
            from: Some(vec![pods(cache, Component::Server), pods(cache, Component::Migration)]),
            ports: Some(vec![tcp(POSTGRES_PORT)]),
        }];
        policies.push(policy(cache, names.postgres(), Component::Postgres, ingress, Vec::new()));
    }
    policies
}

fn policy(
    cache: &ValidCache,
    name: String,
    component: Component,
    ingress: Vec<NetworkPolicyIngressRule>,
    egress: Vec<NetworkPolicyEgressRule>,
) -> NetworkPolicy {
    NetworkPolicy {
        metadata: child(name, &cache.namespace, labels(&cache.name, component), Some(&cache.owner)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selected(cache, component)),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            // Left out means none at all.
            ingress: (!ingress.is_empty()).then_some(ingress),
            egress: (!egress.is_empty()).then_some(egress),
        }),
    }
}

/// Whom the server speaks to.
fn server(cache: &ValidCache, network: &Network) -> Vec<NetworkPolicyEgressRule> {
    let mut egress = vec![dns()];
    if cache.audience.is_some() {
        let ports: BTreeSet<u16> = network.api_ports.iter().copied().chain(API_SERVER_PORTS).collect();
        egress.push(anywhere(ports.into_iter().map(|port| tcp(port.into())).collect()));
    }
    match &cache.storage {
        Storage::Embedded(_) => egress.push(to(cache, Component::S3, S3_PORT)),
        Storage::Own { .. } => egress.extend(network.s3_port.map(|port| anywhere(vec![tcp(port.into())]))),
    }
    if cache.identity().is_some() && network.s3_port != Some(HTTPS) {
        // The cloud's token service.
        egress.push(anywhere(vec![tcp(HTTPS.into())]));
    }
    let issuers: Vec<_> = network.issuer_ports.iter().map(|port| tcp(i32::from(*port))).collect();
    egress.extend((!issuers.is_empty()).then(|| anywhere(issuers)));
    match &cache.database {
        Database::Embedded(_) => egress.push(to(cache, Component::Postgres, POSTGRES_PORT)),
        Database::Own(_) | Database::Connection { .. } => {
            egress.extend(network.database_port.map(|port| anywhere(vec![tcp(port.into())])));
        }
    }
    egress.extend(network.wanted.extra_egress.iter().cloned());
    egress
}

/// Whoever the spec names, and who has to get in for the cache to work; everybody where it names nobody.
fn clients<const N: usize>(
    network: &Network,
    port: i32,
    own: [NetworkPolicyPeer; N],
) -> NetworkPolicyIngressRule {
    let named = &network.wanted.ingress_from;
    NetworkPolicyIngressRule {
        from: (!named.is_empty()).then(|| named.iter().cloned().chain(own).collect()),
        ports: Some(vec![tcp(port)]),
    }
}

fn dns() -> NetworkPolicyEgressRule {
    let udp = DNS_PORTS.map(|port| NetworkPolicyPort { protocol: Some("UDP".to_owned()), ..tcp(port) });
    anywhere(udp.into_iter().chain(DNS_PORTS.map(tcp)).collect())
}

fn anywhere(ports: Vec<NetworkPolicyPort>) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule { ports: Some(ports), to: None }
}

fn to(cache: &ValidCache, component: Component, port: i32) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule { ports: Some(vec![tcp(port)]), to: Some(vec![pods(cache, component)]) }
}

fn pods(cache: &ValidCache, component: Component) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(selected(cache, component)), ..NetworkPolicyPeer::default() }
}

/// The operator asks the server's pods what they have, what they lack and which keys they sign with.
fn operator(network: &Network) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(labelled([(NAMESPACE_LABEL.to_owned(), network.operator.clone())].into())),
        pod_selector: Some(labelled(operator_pods())),
        ..NetworkPolicyPeer::default()
    }
}

fn selected(cache: &ValidCache, component: Component) -> LabelSelector {
    labelled(selector(&cache.name, component))
}

fn labelled(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

fn tcp(port: i32) -> NetworkPolicyPort {
    NetworkPolicyPort { port: Some(IntOrString::Int(port)), protocol: Some("TCP".to_owned()), end_port: None }
}
