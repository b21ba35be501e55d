//! `BinaryCache`: five steps, in order, and nothing else.

pub mod apply;
pub mod build;
pub mod observe;
pub mod pods;
pub mod probe;
pub mod report;
pub mod validate;

#[cfg(test)]
mod arbitrary;

use std::time::Duration;

use crate::apply::ApplyError;
use crate::context::Context;
use crate::crd::BinaryCache;
use crate::crd::binary_cache::Suspend;
use crate::settled;

use self::observe::ObserveError;
use self::pods::Pods;
use self::report::{Outcome, ReportError};

/// A step that failed and is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading what the spec refers to.
    #[error(transparent)]
    Observe(#[from] ObserveError),
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
            Self::Observe(_) => "ObserveFailed",
            Self::Apply(_) => "ApplyFailed",
            Self::Report(_) => "ReportFailed",
        }
    }
}

/// Brings the children of a cache in line with its spec and says how it stands. Gives back when to look again.
pub async fn reconcile(cache: &BinaryCache, context: &Context) -> Result<Duration, Error> {
    if cache.metadata.deletion_timestamp.is_some() {
        return Ok(context.resync);
    }
    if cache.spec.suspend == Suspend::Reconcile {
        return Ok(report::paused(cache, context).await?);
    }
    let observed = observe::observe(cache, context).await?;
    let valid = validate::validate(cache, &observed, &context.images);
    if cache.status.as_ref().and_then(|status| status.observed_generation) != cache.metadata.generation {
        // What somebody asks for is carried out at once.
        context.rollouts.note(&settled::key_of::<BinaryCache>(&cache.metadata), true);
    }
    let first = cache.status.is_none() && observed.deployment.is_none();
    let applied = match &valid {
        Ok(valid) => {
            let resources = build::build(valid);
            Some(Box::pin(apply::apply_all(&resources, valid, observed.deployment, context)).await)
        }
        Err(_) => None,
    };
    let pods = match (&valid, &applied) {
        // What was made a moment ago has no pods yet.
        (Ok(valid), Some(Ok(_))) if !valid.suspended && first => Some(Ok(Pods::default())),
        (Ok(valid), Some(Ok(_))) if !valid.suspended => Some(Pods::list(valid, context).await),
        _ => None,
    };
    let tls = cache.spec.server.tls.is_some();
    let probed = match &pods {
        Some(Ok(pods)) => Some(probe::ask(pods, tls, context).await),
        Some(Err(error)) => Some(Err(format!("the pods cannot be listed: {error}"))),
        None => None,
    };
    let keys = match (&pods, &valid, &applied) {
        (Some(Ok(pods)), ..) => {
            let answered = probed.as_ref().and_then(|answer| answer.as_ref().ok());
            Some(probe::keys(pods, answered, tls, context).await)
        }
        // None runs, and those to come begin with what was written.
        (None, Ok(valid), Some(Ok(_))) if valid.suspended => Some(Vec::new()),
        _ => None,
    };
    let pods = pods.and_then(Result::ok).unwrap_or_default();
    let (applied_now, probed) = (applied.as_ref(), probed.as_ref());
    let outcome = Outcome { valid: &valid, applied: applied_now, pods: &pods, probed, keys: keys.as_deref() };
    let next = report::report(cache, &outcome, context).await?;
    match applied {
        Some(Err(error)) => Err(error.into()),
        _ => Ok(next),
    }
}
