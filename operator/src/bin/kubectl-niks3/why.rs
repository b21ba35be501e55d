//! `kubectl niks3 why`: runs `niks3 why` beside the cache, as its collector, and prints what it says. So nobody needs a
//! token, or a way to the server from outside.

use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::batch::v1::{CronJob, Job, JobSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use niks3_operator::labels::{Names, POLICY_LABEL};
use tokio::time::{Instant, sleep};

use crate::args::WhyArgs;
use crate::cluster::{Cluster, full_name, said};

/// Between two looks.
const POLL: Duration = Duration::from_millis(500);
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
    let job = job(&from, &cache.name_any(), &args.path).context("the CronJob has no pod template")?;
    let jobs = cluster.api::<Job>();
    let made = jobs.create(&PostParams::default(), &job).await;
    let name = made.map_err(|error| said(error, "the Job cannot be made"))?.name_any();
    let answer = ended(cluster, &name).await;
    // It would go by itself in five minutes.
    let _ = jobs.delete(&name, &DeleteParams::background()).await;
    let (pod, exit_code) = answer?;
    let how = LogParams { limit_bytes: Some(1 << 20), ..LogParams::default() };
    let text = cluster.api::<Pod>().logs(&pod, &how).await;
    let text = text.map_err(|error| said(error, &format!("the log of Pod {pod} cannot be read")))?;
    if exit_code != 0 {
        bail!("{}", text.trim().trim_start_matches("error: "));
    }
    Ok(text)
}

/// The Job of a collection, with another question.
fn job(from: &CronJob, cache: &str, path: &str) -> Option<Job> {
    let mut spec: JobSpec = from.spec.clone()?.job_template.spec?;
    let container = spec.template.spec.as_mut()?.containers.first_mut()?;
    // Behind `--` a path is no flag.
    container.args = Some(["why", "--", path].map(str::to_owned).to_vec());
    spec.backoff_limit = Some(0);
    spec.active_deadline_seconds = Some(DEADLINE_SECONDS);
    spec.ttl_seconds_after_finished = Some(300);
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

/// The Job's pod and its exit code.
async fn ended(cluster: &Cluster, job: &str) -> anyhow::Result<(String, i32)> {
    let until = Instant::now() + Duration::from_secs(DEADLINE_SECONDS.unsigned_abs());
    let list = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let mut why = "no pod was made for it".to_owned();
    while Instant::now() < until {
        let pods =
            cluster.api::<Pod>().list(&list).await.map_err(|error| said(error, "pods cannot be listed"))?;
        if let Some(pod) = pods.items.first() {
            let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
            let state = statuses.and_then(|statuses| statuses.first()?.state.clone()).unwrap_or_default();
            if let Some(terminated) = state.terminated {
                return Ok((pod.name_any(), terminated.exit_code));
            }
            let waiting = state.waiting.and_then(|waiting| waiting.reason);
            why = format!("Pod {} is {}", pod.name_any(), waiting.unwrap_or_else(|| "not done".to_owned()));
        }
        sleep(POLL).await;
    }
    bail!("Job {job} gave no answer in {DEADLINE_SECONDS} s: {why}")
}
