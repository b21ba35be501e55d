//! `kubectl niks3 gc`: asks the operator for one collection beside the schedule, of each cache of a policy, and waits for
//! what becomes of it.

use std::time::Duration;

use anyhow::bail;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use niks3_operator::crd::GCPolicy;
use niks3_operator::crd::gc_policy::{LastRun, RUN_NOW, RunNow, RunResult};
use niks3_operator::policy::run_now::{self, How, TOO_EARLY};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::args::GcArgs;
use crate::cluster::{Cluster, full_name, said};
use crate::{print, say, screen};

/// Between two looks.
const POLL: Duration = Duration::from_millis(500);
/// An operator that runs has seen the annotation by then.
const NOTICE: Duration = Duration::from_secs(30);

pub(crate) async fn run(cluster: &Cluster, args: &GcArgs) -> anyhow::Result<String> {
    let policy = cluster.policy(args.policy.as_deref()).await?;
    let (name, full) = (policy.name_any(), full_name(&policy));
    let how = match (args.dry_run, args.override_safety) {
        (true, _) => How::DryRun,
        (_, true) => How::OverrideSafety,
        _ => How::AsScheduled,
    };
    let asked = how.value(Timestamp::now());
    annotate(cluster, &name, &json!(asked)).await?;
    let begun = Instant::now();
    let told = match begun_jobs(cluster, &name, &asked, begun + args.timeout().min(NOTICE)).await {
        Ok(told) => told,
        Err(error) => {
            // Else it would begin when nobody waits for it any more.
            annotate(cluster, &name, &Value::Null).await?;
            return Err(error.context(format!("GCPolicy {full}: no collection was begun")));
        }
    };
    let jobs: Vec<String> = run_now::jobs(&told).into_iter().cloned().collect();
    for job in &jobs {
        say(&format!("GCPolicy {full}: Job {job} collects"));
    }
    for (cache, why) in told.caches.iter().filter_map(|cache| Some((&cache.name, cache.message.as_ref()?))) {
        say(&format!("GCPolicy {full}: BinaryCache {cache} is not collected yet: {why}"));
    }
    if args.no_wait {
        return Ok(String::new());
    }
    let until = begun + args.timeout();
    if let [job] = &jobs[..] {
        return result(&name, job, ended(cluster, &name, job, until).await?.1);
    }
    let (mut lines, mut failed) = (String::new(), Vec::new());
    for job in &jobs {
        let ended = ended(cluster, &name, job, until).await;
        match ended.and_then(|(cache, run)| Ok((cache, result(&name, job, run)?))) {
            Ok((cache, said)) => lines = format!("{lines}{cache}: {said}"),
            Err(error) => failed.push(format!("Job {job}: {error:#}")),
        }
    }
    if failed.is_empty() {
        return Ok(lines);
    }
    print(&lines)?;
    bail!("{} of {} collections did not succeed:\n{}", failed.len(), jobs.len(), failed.join("\n"))
}

/// A collection that ended, for people.
fn result(name: &str, job: &str, run: LastRun) -> anyhow::Result<String> {
    match run.result {
        RunResult::Succeeded => {
            let message = run.message.as_ref().map(|message| format!("{message}\n")).unwrap_or_default();
            Ok(format!("{}\n{message}", screen::result(&run)))
        }
        RunResult::Failed if run.reason.as_deref() == Some("SafetyLimitReached") => bail!(
            "the collection deleted nothing: {}; look at `kubectl niks3 gc {name} --dry-run`, and where that \
             is meant, use --override-safety",
            run.message.unwrap_or_default()
        ),
        RunResult::Failed => {
            bail!("the collection {}; `kubectl logs job/{job}` says more", screen::result(&run))
        }
    }
}

async fn annotate(cluster: &Cluster, name: &str, value: &Value) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {RUN_NOW: value}}}));
    let patched = cluster.api::<GCPolicy>().patch_metadata(name, &PatchParams::default(), &patch).await;
    patched.map(|_| ()).map_err(|error| said(error, &format!("GCPolicy {name} cannot be annotated")))
}

/// What the operator made of the request.
async fn begun_jobs(cluster: &Cluster, name: &str, asked: &str, until: Instant) -> anyhow::Result<RunNow> {
    loop {
        let told = cluster.policy(Some(name)).await?.status.and_then(|status| status.run_now);
        let mut why = None;
        if let Some(told) = told.filter(|told| told.requested == asked) {
            if !run_now::jobs(&told).is_empty() {
                return Ok(told);
            }
            why = told.message;
        }
        match why {
            Some(why) if why != TOO_EARLY => bail!(why),
            _ if Instant::now() < until => sleep(POLL).await,
            Some(_) => bail!("the operator's clock is behind the one here"),
            None => bail!("the operator did not answer; does it run? `kubectl get pods -n niks3-system`"),
        }
    }
}

/// What became of the Job, and which cache it was for.
async fn ended(
    cluster: &Cluster,
    name: &str,
    job: &str,
    until: Instant,
) -> anyhow::Result<(String, LastRun)> {
    let jobs = cluster.api::<Job>();
    let mut over = false;
    loop {
        let status = cluster.policy(Some(name)).await?.status.unwrap_or_default();
        let mut runs = status.caches.into_iter().filter_map(|cache| Some((cache.name, cache.last_run?)));
        if let Some(found) = runs.find(|(_, run)| run.job_name == job) {
            return Ok(found);
        }
        if over {
            bail!(
                "Job {job} ended, but GCPolicy {name} tells of another one; `kubectl logs job/{job}` says more"
            );
        }
        // Then the status is looked at once more, and the operator had a moment to write it.
        let found =
            jobs.get_opt(job).await.map_err(|error| said(error, &format!("Job {job} cannot be read")))?;
        over = found.is_none_or(|found| has_ended(&found));
        if Instant::now() >= until {
            bail!("Job {job} still runs; `kubectl niks3 status` will say what became of it");
        }
        sleep(if over { POLL * 10 } else { POLL }).await;
    }
}

fn has_ended(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ended = |c: &k8s_openapi::api::batch::v1::JobCondition| c.status == "True" && c.type_ != "Suspended";
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| ended(condition) && ["Complete", "Failed"].contains(&&*condition.type_))
    })
}
