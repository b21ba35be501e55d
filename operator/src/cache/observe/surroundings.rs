//! What NetworkPolicies have to know of the cluster.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::Client;

use crate::context::Context;
use crate::crd::BinaryCacheSpec;
use crate::crd::binary_cache::NetworkPolicyMode;

/// What NetworkPolicies have to know of the cluster.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Where the API server listens: its Service leads there, and many networks look at where a Service leads.
    pub api_ports: BTreeSet<u16>,
    /// The operator's own namespace.
    pub operator: String,
}

/// Finds out where it matters.
pub(super) async fn look(spec: &BinaryCacheSpec, context: &Context) -> kube::Result<Surroundings> {
    if spec.server.network_policy.mode == NetworkPolicyMode::Disabled {
        return Ok(Surroundings::default());
    }
    let api_ports = context.api_ports.ask(&context.client).await?;
    Ok(Surroundings { api_ports, operator: context.namespace.clone() })
}

/// The ports that the API server named last.
#[derive(Debug, Default)]
pub struct ApiPorts(Mutex<Option<(Instant, BTreeSet<u16>)>>);

impl ApiPorts {
    const LASTS: Duration = Duration::from_mins(5);

    async fn ask(&self, client: &Client) -> kube::Result<BTreeSet<u16>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, ports)) = known.filter(|(at, _)| at.elapsed() < Self::LASTS) {
            return Ok(ports);
        }
        let ports = match client.list_core_api_versions().await {
            Ok(said) => {
                said.server_address_by_client_cidrs.iter().filter_map(|at| port(&at.server_address)).collect()
            }
            // Who may not ask has the usual ports.
            Err(kube::Error::Api(answer)) if answer.is_forbidden() || answer.is_not_found() => {
                BTreeSet::new()
            }
            Err(error) => return Err(error),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), ports.clone()));
        Ok(ports)
    }
}

/// Of `192.0.2.2:6443` or `[2001:db8::1]:6443`.
fn port(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_an_address() {
        let ports = ["192.0.2.2:16443", "[2001:db8::1]:6443", "[2001:db8::1]", "example.org", ""].map(port);
        assert_eq!(ports, [Some(16443), Some(6443), None, None, None]);
    }
}
