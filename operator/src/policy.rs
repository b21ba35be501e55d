//! `GCPolicy`: the same five steps as for a cache.

pub mod apply;
pub mod build;
pub mod claims;
mod findings;
mod last_fsck;
pub mod last_run;
mod limits;
pub mod observe;
pub mod report;
pub mod run_now;
pub mod schedule;
pub mod told;
pub mod validate;

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::apply::ApplyError;
use crate::context::Context;
use crate::crd::GCPolicy;

use self::report::{Outcome, ReportError};

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
        return Ok(report::resync(context));
    }
    let observed = Box::pin(observe::observe(policy, context)).await?;
    let valid = validate::validate(policy, &observed, &context.images);
    let run_now = run_now::request(policy, &valid, Timestamp::now());
    // A policy that cannot be carried out has no children: what it once was allowed to do may be wrong now.
    let wanted = valid.as_ref().map(|valid| build::build(&valid.caches, run_now.due())).unwrap_or_default();
    let applied = apply::apply_all(policy, &wanted, context).await;
    let outcome = Outcome { observed: &observed, valid: &valid, run_now: &run_now, applied: &applied };
    let next = report::report(policy, &outcome, context).await?;
    match applied.error {
        // Cron and time zone are judged by the API server; nothing changes until the spec does.
        Some(error) if validate::refused(&error).is_some() => Ok(next),
        Some(error) => Err(error.into()),
        None => Ok(next),
    }
}
