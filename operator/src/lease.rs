//! One operator at a time, by a `Lease`. The rule is that of client-go: a lease is taken over only after it
//! was seen unchanged for its whole duration on our own clock, so clocks need not agree. A lease is no fence;
//! everything the reconcilers do is safe under two of them.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::args::LeaseArgs;

/// How long a lease that nobody renews keeps others away.
const DURATION: Duration = Duration::from_secs(15);
/// Who cannot renew for so long stops working, well before others begin.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks.
const RETRY: Duration = Duration::from_secs(2);
/// The limit on one request: a connection that hangs must not outlast the deadline.
const REQUEST: Duration = Duration::from_secs(4);

/// The right to act.
pub struct Leadership {
    leases: Api<Lease>,
    name: String,
    identity: String,
    duration: Duration,
}

impl Leadership {
    /// About the lease that `args` name.
    pub fn new(client: Client, args: &LeaseArgs) -> Self {
        Self {
            leases: Api::namespaced(client, &args.namespace),
            name: args.lease_name.clone(),
            identity: args.identity.clone(),
            duration: DURATION,
        }
    }

    /// Waits until the lease is ours.
    pub async fn acquire(&self) {
        let mut seen: Option<(Option<String>, Instant)> = None;
        tracing::info!(lease = self.name, identity = self.identity, "waiting for the lease");
        loop {
            match self.request(self.try_acquire(&mut seen)).await {
                Ok(true) => return tracing::info!(lease = self.name, "this operator acts now"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the lease could not be read or written"),
            }
            sleep(RETRY).await;
        }
    }

    /// Renews until `stop`, then gives the lease back. Gives back `false` when the lease was lost.
    pub async fn hold(&self, stop: &CancellationToken) -> bool {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    if let Err(error) = self.request(self.write_if_ours(None)).await {
                        tracing::warn!(%error, "the lease could not be given back");
                    }
                    return true;
                }
                () = sleep(RETRY) => {}
            }
            match self.request(self.write_if_ours(Some(Timestamp::now()))).await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return false,
                Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
            }
            if renewed.elapsed() >= RENEW_DEADLINE {
                return false;
            }
        }
    }

    async fn request<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, LeaseError> {
        Ok(tokio::time::timeout(REQUEST, request).await.map_err(|_| LeaseError::Timeout)??)
    }

    async fn try_acquire(&self, seen: &mut Option<(Option<String>, Instant)>) -> kube::Result<bool> {
        let Some(lease) = self.leases.get_opt(&self.name).await? else {
            let fresh = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(0)),
            };
            return won(self.leases.create(&PostParams::default(), &fresh).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let version = lease.metadata.resource_version.clone();
        let since = match seen {
            Some((before, since)) if *before == version => *since,
            _ => {
                *seen = Some((version, Instant::now()));
                Instant::now()
            }
        };
        let theirs = spec
            .lease_duration_seconds
            .and_then(|s| u64::try_from(s).ok())
            .map_or(DURATION, Duration::from_secs);
        if !holder.is_empty() && holder != self.identity && since.elapsed() < theirs {
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
            lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
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
