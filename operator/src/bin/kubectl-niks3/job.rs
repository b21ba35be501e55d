//! A Job that is made for one question, waited for and deleted.

use std::time::Duration;

use anyhow::bail;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use niks3_operator::labels::JOB_NAME;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, said};

/// Between two looks.
const POLL: Duration = Duration::from_millis(500);

/// Tried once, and at its end by itself after so many seconds, whatever becomes of this program.
pub(crate) fn once(spec: JobSpec, deadline_seconds: i64) -> JobSpec {
    JobSpec {
        backoff_limit: Some(0),
        active_deadline_seconds: Some(deadline_seconds),
        ttl_seconds_after_finished: Some(300),
        ..spec
    }
}

/// What it printed, and whether it succeeded.
pub(crate) async fn run(cluster: &Cluster, job: &Job) -> anyhow::Result<(String, bool)> {
    let deadline = job.spec.as_ref().and_then(|spec| spec.active_deadline_seconds).unwrap_or_default();
    let jobs = cluster.api::<Job>();
    let made = jobs.create(&PostParams::default(), job).await;
    let name = made.map_err(|error| said(error, "the Job cannot be made"))?.name_any();
    let answer = ended(cluster, &name, deadline.unsigned_abs()).await;
    let text = match &answer {
        Ok((pod, _)) => log(cluster, pod).await,
        Err(_) => Ok(String::new()),
    };
    // It would go by itself in five minutes.
    let _ = jobs.delete(&name, &DeleteParams::background()).await;
    let (_, exit_code) = answer?;
    Ok((text?, exit_code == 0))
}

async fn log(cluster: &Cluster, pod: &str) -> anyhow::Result<String> {
    let how = LogParams { limit_bytes: Some(1 << 20), ..LogParams::default() };
    let text = cluster.api::<Pod>().logs(pod, &how).await;
    text.map_err(|error| said(error, &format!("the log of Pod {pod} cannot be read")))
}

/// The Job's pod and its exit code.
async fn ended(cluster: &Cluster, job: &str, seconds: u64) -> anyhow::Result<(String, i32)> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let list = ListParams::default().labels(&format!("{JOB_NAME}={job}"));
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
    bail!("Job {job} gave no answer in {seconds} s: {why}")
}
