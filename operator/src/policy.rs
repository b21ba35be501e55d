//! `GCPolicy`: the same five steps as for a cache.

pub mod build;
pub mod last_run;
pub mod observe;
pub mod report;
pub mod validate;

use std::time::Duration;

use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt as _;

use crate::apply::{ApplyError, Children};
use crate::context::Context;
use crate::crd::GCPolicy;
use crate::labels::{self, Component};

use self::build::Resources;
use self::report::ReportError;

/// A step that failed and is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading what the spec refers to.
    #[error("could not read {what}")]
    Observe {
        /// What.
        what: &'static str,
        /// Why.
        source: kube::Error,
    },
    /// Writing the children.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Writing the status.
    #[error(transparent)]
    Report(#[from] ReportError),
}

impl Error {
    /// For metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Observe { .. } => "ObserveFailed",
            Self::Apply(_) => "ApplyFailed",
            Self::Report(_) => "ReportFailed",
        }
    }
}

/// Brings the children of a policy in line with its spec and says how it stands. Gives back when to look again.
pub async fn reconcile(policy: &GCPolicy, context: &Context) -> Result<Duration, Error> {
    if policy.metadata.deletion_timestamp.is_some() {
        return Ok(report::RESYNC);
    }
    let observed = observe::observe(policy, context).await?;
    let valid = validate::validate(policy, &observed, &context.images);
    // A policy that cannot be carried out has no children: what it once was allowed to do may be wrong now.
    let wanted = valid.as_ref().map(build::build).unwrap_or_default();
    let applied = apply_all(policy, &wanted, context).await;
    let next = report::report(policy, &observed, &valid, applied.as_ref().err(), context).await?;
    match applied {
        // Cron and time zone are judged by the API server; nothing changes until the spec does.
        Err(error) if validate::refused(&error).is_some() => Ok(next),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(next),
    }
}

async fn apply_all(policy: &GCPolicy, wanted: &Resources, context: &Context) -> Result<(), ApplyError> {
    let (namespace, uid) = (policy.namespace().unwrap_or_default(), policy.uid().unwrap_or_default());
    let all = labels::all_of_component(Component::Gc);
    let mut accounts: Children<'_, ServiceAccount> = Children::list(context, &namespace, &all, &uid).await?;
    accounts.apply(wanted.service_account.as_slice()).await?;
    let mut cron_jobs: Children<'_, CronJob> = Children::list(context, &namespace, &all, &uid).await?;
    cron_jobs.apply(wanted.cron_job.as_slice()).await?;
    cron_jobs.prune().await?;
    accounts.prune().await
}
