//! What reconcilers share.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::runtime::events::Recorder;

use crate::apply::Written;
use crate::args::Images;
use crate::cache::observe::ApiPorts;
use crate::cache::probe::Probe;
use crate::foreign::Absence;
use crate::known::Known;
use crate::labels::OPERATOR;
use crate::metrics::Metrics;
use crate::rollouts::Rollouts;
use crate::scope::Scope;
use crate::settled::Settled;
use crate::watches::Stores;

/// How many caches are rolled out at a time where nothing else is said.
pub const MAX_ROLLOUTS: usize = 10;

/// What reconcilers share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What caches run where they do not say so themselves.
    pub images: Images,
    /// One for the process: it counts repeats.
    pub recorder: Recorder,
    /// Asks the caches' servers.
    pub probe: Probe,
    /// What /metrics shows.
    pub metrics: Metrics,
    /// Who failed how often in a row.
    pub backoff: Backoff,
    /// Where the API server listens.
    pub api_ports: ApiPorts,
    /// The operator's own namespace.
    pub namespace: String,
    /// Whether the Gateway API is missing.
    pub gateway_absence: Absence,
    /// Whether the Gateway API is missing, or is older than its BackendTLSPolicy.
    pub backend_tls_absence: Absence,
    /// Whether cert-manager is missing.
    pub certificate_absence: Absence,
    /// Whether the prometheus-operator is missing.
    pub monitoring_absence: Absence,
    /// Which children are as they were left.
    pub written: Written,
    /// Which objects are as they were left.
    pub settled: Settled,
    /// What the watches have told of children.
    pub known: Known,
    /// What the watches have told of caches and policies.
    pub stores: Stores,
    /// Which caches are being rolled out.
    pub rollouts: Rollouts,
    /// Where the operator looks.
    pub scope: Scope,
    /// When a cache that is well is looked at again; a policy, after twice that.
    pub resync: Duration,
}

impl Context {
    /// Everything but the client and the images is the same everywhere.
    pub fn new(client: Client, images: Images, probe: Probe) -> Self {
        Self {
            recorder: Recorder::new(client.clone(), OPERATOR.into()),
            client,
            images,
            probe,
            metrics: Metrics::default(),
            backoff: Backoff::default(),
            api_ports: ApiPorts::default(),
            namespace: "niks3-system".to_owned(),
            gateway_absence: Absence::default(),
            backend_tls_absence: Absence::default(),
            certificate_absence: Absence::default(),
            monitoring_absence: Absence::default(),
            written: Written::default(),
            settled: Settled::default(),
            known: Known::default(),
            stores: Stores::default(),
            rollouts: Rollouts::new(MAX_ROLLOUTS),
            scope: Scope::default(),
            resync: Duration::from_mins(5),
        }
    }
}

/// How long an object that fails again and again waits.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<String, u32>>);

impl Backoff {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_mins(2);

    /// Another failure: twice the wait.
    pub fn failed(&self, object: &str) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(object.to_owned()).or_default();
        *count += 1;
        Self::FIRST.saturating_mul(1 << (*count - 1).min(16)).min(Self::LONGEST)
    }

    /// A success: the count begins anew.
    pub fn succeeded(&self, object: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_begin_anew() {
        let backoff = Backoff::default();
        let waits: Vec<u64> = (0..9).map(|_| backoff.failed("a").as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        assert_eq!(backoff.failed("b").as_secs(), 1);
        backoff.succeeded("a");
        assert_eq!(backoff.failed("a").as_secs(), 1);
    }
}
