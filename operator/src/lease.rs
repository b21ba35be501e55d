//! One operator at a time, by a `Lease`. The rule is that of client-go: a lease is taken over only after it
//! was seen unchanged for its whole duration on our own clock, so clocks need not agree. Who was stopped for longer than
//! its lease lasts finds its writes refused by its own client (`Fence`); everything the reconcilers do is safe under two
//! of them all the same, for a write may be on its way that long.

mod election;
mod fence;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::args::LeaseArgs;

use self::election::{Election, Found, LASTS, Moment};
pub use self::fence::{Fence, Fenced};

/// Between two looks.
const RETRY: Duration = Duration::from_secs(2);
/// The limit on one request: a connection that hangs must not outlast the deadline.
const REQUEST: Duration = Duration::from_secs(4);

/// The right to act.
pub struct Leadership {
    leases: Api<Lease>,
    name: String,
    identity: String,
    election: Mutex<Election>,
    fence: Fence,
}

impl Leadership {
    /// About the lease that `args` name. The client must not be behind the fence.
    pub fn new(client: Client, args: &LeaseArgs, fence: Fence) -> Self {
        Self {
            leases: Api::namespaced(client, &args.namespace),
            name: args.lease_name.clone(),
            identity: args.identity.clone(),
            election: Mutex::new(Election::new(args.identity.clone())),
            fence,
        }
    }

    fn election<T>(&self, ask: impl FnOnce(&mut Election) -> T) -> T {
        ask(&mut self.election.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the lease is ours.
    pub async fn acquire(&self) {
        tracing::info!(lease = self.name, identity = self.identity, "waiting for the lease");
        loop {
            let sent = self.fence.now();
            match self.request(self.try_acquire()).await {
                Ok(true) => {
                    self.won(sent);
                    return tracing::info!(lease = self.name, "this operator acts now");
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the lease could not be read or written"),
            }
            sleep(RETRY).await;
        }
    }

    /// Renews until `stop`, then gives the lease back. Gives back `false` when the lease was lost.
    pub async fn hold(&self, stop: &CancellationToken) -> bool {
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    self.fence.close();
                    if let Err(error) = self.request(self.write_if_ours(None)).await {
                        tracing::warn!(%error, "the lease could not be given back");
                    }
                    return true;
                }
                () = sleep(RETRY) => {}
            }
            let sent = self.fence.now();
            let renewal = self.request(self.write_if_ours(Some(Timestamp::now())));
            match timeout_at(self.fence.instant(self.fence.until()), renewal).await {
                Ok(Ok(true)) => self.won(sent),
                Ok(Err(error)) if self.election(|election| election.acts(self.fence.now())) => {
                    tracing::warn!(%error, "the lease could not be renewed");
                }
                Ok(_) | Err(_) => {
                    self.fence.close();
                    self.election(Election::lost);
                    return false;
                }
            }
        }
    }

    fn won(&self, sent: Moment) {
        self.fence.open(self.election(|election| election.won(sent)));
    }

    async fn request<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, LeaseError> {
        Ok(tokio::time::timeout(REQUEST, request).await.map_err(|_| LeaseError::Timeout)??)
    }

    async fn try_acquire(&self) -> kube::Result<bool> {
        let Some(lease) = self.leases.get_opt(&self.name).await? else {
            let fresh = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(0)),
            };
            return won(self.leases.create(&PostParams::default(), &fresh).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let lasts = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
        let found = Found {
            version: lease.metadata.resource_version.clone(),
            holder: spec.holder_identity.clone().unwrap_or_default(),
            lasts: lasts.map_or(LASTS, Duration::from_secs),
        };
        if !self.election(|election| election.may_take(self.fence.now(), &found)) {
            return Ok(false);
        }
        let taken = Lease { spec: Some(self.spec(spec.lease_transitions.unwrap_or(0) + 1)), ..lease };
        // With the version that was read: of two that try, one wins.
        won(self.leases.replace(&self.name, &PostParams::default(), &taken).await)
    }

    /// Renews, or gives back where there is no time. `false` where the lease is another's by now.
    async fn write_if_ours(&self, renew: Option<Timestamp>) -> kube::Result<bool> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else { return Ok(false) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(false);
        }
        match renew {
            Some(now) => spec.renew_time = Some(MicroTime(now)),
            None => spec.holder_identity = Some(String::new()),
        }
        won(self.leases.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LASTS.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

/// A request about the lease that failed.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error(transparent)]
    Kube(#[from] kube::Error),
    #[error("no answer within {REQUEST:?}")]
    Timeout,
}

fn won<T>(answer: kube::Result<T>) -> kube::Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}
