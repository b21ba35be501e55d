//! Pure and infallible: a valid cache becomes its children. One kind of child a file.

mod autoscaler;
mod certificate;
mod config_map;
mod deployment;
mod disruption;
mod embedded;
mod monitor;
mod network;
mod pod;
mod secrets;
mod service;
mod service_account;
mod volumes;
mod ways_in;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::foreign::{BackendTlsPolicy, Certificate, HttpRoute, ServiceMonitor};

use super::validate::{Database, Storage, ValidCache};

pub use pod::{SECRET_MODE, USER, env, hardened, pull_secrets, read_only, secret_volume};
pub use secrets::{credentials_note, key_chain, key_set, key_upkeep};

/// The port the server listens on.
pub const SERVER_PORT: i32 = 5751;

/// The children of a cache, as they should be.
#[derive(Debug, Default)]
pub struct Resources {
    /// Made once, never changed.
    pub secrets: Vec<Secret>,
    /// Who the server is.
    pub service_accounts: Vec<ServiceAccount>,
    /// The server's configuration and what clients mount.
    pub config_maps: Vec<ConfigMap>,
    /// Of the server and the embedded servers.
    pub services: Vec<Service>,
    /// The embedded servers.
    pub stateful_sets: Vec<StatefulSet>,
    /// The server.
    pub deployments: Vec<Deployment>,
    /// Of the server, where it has several pods.
    pub disruption_budgets: Vec<PodDisruptionBudget>,
    /// Of the server, where the load decides how many pods it has.
    pub autoscalers: Vec<HorizontalPodAutoscaler>,
    /// Who may speak to whom, where that is limited.
    pub network_policies: Vec<NetworkPolicy>,
    /// A way in from outside.
    pub ingresses: Vec<Ingress>,
    /// A way in from outside.
    pub http_routes: Vec<HttpRoute>,
    /// How Gateways speak to it, where it speaks TLS itself.
    pub backend_tls_policies: Vec<BackendTlsPolicy>,
    /// What cert-manager is asked for.
    pub certificates: Vec<Certificate>,
    /// How Prometheus is told of the metrics.
    pub service_monitors: Vec<ServiceMonitor>,
}

/// The children of a cache.
pub fn build(cache: &ValidCache) -> Resources {
    let config = config_map::server(cache);
    let mut resources = Resources {
        secrets: secrets::signing_keys(cache).collect(),
        service_accounts: service_account::server(cache).into_iter().collect(),
        services: vec![service::server(cache)],
        deployments: vec![deployment::server(cache, &config)],
        config_maps: vec![config, config_map::client(cache)],
        disruption_budgets: disruption::server(cache).into_iter().collect(),
        autoscalers: autoscaler::server(cache).into_iter().collect(),
        network_policies: network::policies(cache),
        ingresses: ways_in::ingress(cache).into_iter().collect(),
        http_routes: ways_in::http_route(cache).into_iter().collect(),
        backend_tls_policies: ways_in::backend_tls(cache).into_iter().collect(),
        certificates: certificate::server(cache).into_iter().collect(),
        service_monitors: monitor::server(cache).into_iter().collect(),
        stateful_sets: Vec::new(),
    };
    if let Storage::Embedded(server) = &cache.storage {
        resources.secrets.extend(secrets::s3(cache, server));
        resources.services.push(service::s3(cache));
        resources.stateful_sets.push(embedded::s3(cache, server));
    }
    if let Database::Embedded(server) = &cache.database {
        resources.secrets.extend(secrets::postgres(cache, server));
        resources.services.push(service::postgres(cache));
        resources.stateful_sets.push(embedded::postgres(cache, server));
    }
    resources
}

#[cfg(test)]
mod tests;
