//! Writes the children of a policy.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};

use crate::apply::{ApplyError, Children};
use crate::context::Context;
use crate::crd::GCPolicy;
use crate::labels::{self, Component};

use super::build::Resources;

/// What became of the children.
#[derive(Debug, Default)]
pub struct Applied {
    /// The Jobs beside the schedule that are there now.
    pub begun: BTreeSet<String>,
    /// Why not all is as it should be.
    pub error: Option<ApplyError>,
}

/// Makes the children what they should be, and deletes what is no longer wanted. What is asked for beside the schedule
/// is begun for each cache, whatever becomes of the others.
pub async fn apply_all(policy: &GCPolicy, wanted: &Resources, context: &Context) -> Applied {
    let mut applied = Applied { error: children(policy, wanted, context).await.err(), ..Applied::default() };
    if applied.error.is_some() {
        return applied;
    }
    let namespace = policy.namespace().unwrap_or_default();
    for job in &wanted.run_now {
        match make(job, &namespace, context).await {
            Ok(()) => {
                applied.begun.insert(job.name_any());
            }
            Err(error) => applied.error = Some(error),
        }
    }
    applied
}

async fn children(policy: &GCPolicy, wanted: &Resources, context: &Context) -> Result<(), ApplyError> {
    let (namespace, uid) = (policy.namespace().unwrap_or_default(), policy.uid().unwrap_or_default());
    let all = labels::all_of_component(Component::Gc);
    let mut accounts: Children<'_, ServiceAccount> =
        Children::list::<GCPolicy>(context, &namespace, &all, &uid).await?;
    accounts.apply(&wanted.service_accounts).await?;
    let mut cron_jobs: Children<'_, CronJob> =
        Children::list::<GCPolicy>(context, &namespace, &all, &uid).await?;
    cron_jobs.apply(&wanted.cron_jobs).await?;
    cron_jobs.prune().await?;
    accounts.prune().await
}

/// `create` alone: a Job of this name was made for this very request.
async fn make(job: &Job, namespace: &str, context: &Context) -> Result<(), ApplyError> {
    let api: Api<Job> = Api::namespaced(context.client.clone(), namespace);
    match api.create(&PostParams::default(), job).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(source) => Err(ApplyError::new::<Job>("create", &job.name_any(), source)),
    }
}
