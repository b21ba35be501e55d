//! `kubectl niks3 why`: runs `niks3 why` beside the cache, as its collector, and prints what it says. So nobody needs a
//! token, or a way to the server from outside.

use anyhow::{Context as _, bail};
use k8s_openapi::api::batch::v1::{CronJob, Job, JobSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use niks3_operator::labels::{Names, POLICY_LABEL};

use crate::args::WhyArgs;
use crate::cluster::{Cluster, full_name, said};
use crate::job;

/// The Job ends by itself then, whatever becomes of this program.
const DEADLINE_SECONDS: i64 = 120;

pub(crate) async fn run(cluster: &Cluster, args: &WhyArgs) -> anyhow::Result<String> {
    let cache = cluster.cache(args.cache.as_deref()).await?;
    let (full, collector) = (full_name(&cache), Names(&cache.name_any()).gc());
    let found = cluster.api::<CronJob>().get_opt(&collector).await;
    let found = found.map_err(|error| said(error, &format!("CronJob {collector} cannot be read")))?;
    let from = found.with_context(|| {
        format!("nobody may ask in the name of BinaryCache {full}: no GCPolicy collects it; make one, `suspend: true` will do")
    })?;
    let job = question(&from, &cache.name_any(), &args.path).context("the CronJob has no pod template")?;
    let (text, succeeded) = job::run(cluster, &job).await?;
    if !succeeded {
        bail!("{}", text.trim().trim_start_matches("error: "));
    }
    Ok(text)
}

/// The Job of a collection, with another question.
fn question(from: &CronJob, cache: &str, path: &str) -> Option<Job> {
    let mut spec: JobSpec = from.spec.clone()?.job_template.spec?;
    let container = spec.template.spec.as_mut()?.containers.first_mut()?;
    // Behind `--` a path is no flag.
    container.args = Some(["why", "--", path].map(str::to_owned).to_vec());
    spec = job::once(spec, DEADLINE_SECONDS);
    // It is no collection of the policy.
    let mut labels = spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.remove(POLICY_LABEL);
    spec.template.metadata = Some(ObjectMeta { labels: Some(labels.clone()), ..ObjectMeta::default() });
    let metadata = ObjectMeta {
        generate_name: Some(format!("{cache}-why-")),
        labels: Some(labels),
        ..ObjectMeta::default()
    };
    Some(Job { metadata, spec: Some(spec), status: None })
}
