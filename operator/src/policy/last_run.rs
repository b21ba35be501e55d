//! Pure: a Job and its pods become what the status says of the last collection. The client leaves its result,
//! a [`GcStatus`] as JSON, in the pod's termination message.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use niks3_protocol::api::gc::plan::GcPlan;
use niks3_protocol::api::gc::{GcState, GcStatus};

use crate::crd::conditions::truncated;
use crate::crd::gc_policy::{GCMode, LastRun, RunResult};
use crate::status::timestamp;

/// Keeps a status small, whatever a pod writes.
const MAX_MESSAGE: usize = 1024;

/// The Job that ended last.
pub(super) fn newest_ended(jobs: Vec<Job>) -> Option<Job> {
    jobs.into_iter()
        .filter_map(|job| Some((ended(&job)?.0, job)))
        .max_by(|(a, _), (b, _)| a.cmp(b))
        .map(|(_, job)| job)
}

/// When a Job ended, and how; none while it runs.
pub(super) fn ended(job: &Job) -> Option<(Timestamp, RunResult, Option<&str>)> {
    job.status.as_ref()?.conditions.iter().flatten().filter(|condition| condition.status == "True").find_map(
        |condition| {
            let result = match condition.type_.as_str() {
                "Complete" => RunResult::Succeeded,
                "Failed" => RunResult::Failed,
                _ => return None,
            };
            let at = condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            Some((at, result, condition.message.as_deref()))
        },
    )
}

/// When a Job began.
pub(super) fn started(job: &Job) -> Option<String> {
    Some(timestamp(job.status.as_ref()?.start_time.as_ref()?.0))
}

/// What the status says beside the result: what failed without a word is told by its Job.
pub(super) fn told(message: Option<String>, failed: bool, of_job: Option<&str>) -> Option<String> {
    let message = message.or_else(|| failed.then(|| of_job.unwrap_or("the Job failed").to_owned()));
    message.map(|text| truncated(text.trim(), MAX_MESSAGE))
}

/// What the status says of a Job that ended.
pub(super) fn last_run(job: &Job, pods: &[Pod]) -> Option<LastRun> {
    let (at, result, message) = ended(job)?;
    let mut run = LastRun {
        job_name: job.name_any(),
        started_at: started(job),
        finished_at: Some(timestamp(at)),
        result,
        reason: None,
        mode: None,
        failed_uploads_deleted: None,
        closures_deleted: None,
        objects_marked: None,
        objects_deleted: None,
        bytes_freed: None,
        message: None,
    };
    let left = message_of_last_pod(pods);
    match left.as_deref().map(serde_json::from_str::<GcStatus>) {
        Some(Ok(status)) => {
            let stats = status.stats;
            run.failed_uploads_deleted = Some(stats.failed_uploads_deleted);
            run.closures_deleted = Some(stats.old_closures_deleted);
            run.objects_marked = Some(stats.objects_marked_for_deletion);
            run.objects_deleted = Some(stats.objects_deleted_after_grace_period);
            run.bytes_freed = Some(stats.bytes_freed);
            run.reason = status.reason.map(|reason| format!("{reason:?}"));
            run.mode = status.params.dry_run.then_some(GCMode::DryRun);
            let largest = status.plan.filter(|_| status.params.dry_run).map(|plan| largest(&plan));
            let warnings = (!status.warnings.is_empty()).then(|| status.warnings.join("; "));
            run.message = status.error.or(warnings).or(largest);
            if status.state == GcState::Failed {
                run.result = RunResult::Failed;
            }
        }
        // Not a result: the last lines of the log, where it failed.
        Some(Err(_)) if result == RunResult::Failed => run.message = left,
        _ => {}
    }
    run.message = told(run.message, run.result == RunResult::Failed, message);
    Some(run)
}

/// The largest closures that a dry run found to go.
fn largest(plan: &GcPlan) -> String {
    let roots = plan.largest_dropped.iter().map(|root| {
        let path = root.store_path.as_ref().unwrap_or(&root.key);
        format!("{path} ({} bytes, {})", root.unique_bytes, root.rule)
    });
    let roots: Vec<String> = roots.collect();
    let list = if roots.is_empty() { "none".to_owned() } else { roots.join(", ") };
    format!("largest closures that would go: {list}")
}

pub(super) fn message_of_last_pod(pods: &[Pod]) -> Option<String> {
    let last = pods.iter().max_by_key(|pod| pod.creation_timestamp().map(|time| time.0))?;
    let containers = last.status.as_ref()?.container_statuses.as_ref()?;
    let terminated = containers.first()?.state.as_ref()?.terminated.as_ref()?;
    terminated.message.clone().filter(|message| !message.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(name: &str, condition: &str, at: &str) -> Job {
        serde_json::from_value(json!({"metadata": {"name": name}, "status": {"startTime": at, "conditions": [
            {"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": at},
            {"type": condition, "status": "True", "lastTransitionTime": at, "message": "of the Job"}]}}))
        .unwrap()
    }

    fn pod(message: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"containerStatuses": [{"name": "gc", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": 0, "message": message}}}]}}))
        .unwrap()
    }

    #[test]
    fn a_job_that_runs_has_not_ended() {
        let running = job("running", "Suspended", "2026-01-03T00:00:00Z");
        let (old, new) =
            (job("old", "Complete", "2026-01-01T00:00:00Z"), job("new", "Failed", "2026-01-02T00:00:00Z"));
        assert_eq!(newest_ended(vec![old, running, new]).unwrap().name_any(), "new");
        assert!(newest_ended(vec![]).is_none());
    }

    #[test]
    fn the_counts_come_from_the_termination_message() {
        let result = json!({"state": "succeeded", "phase": "vacuum_tables",
            "params": {"older_than": "1h", "failed_uploads_older_than": "6h", "force": false},
            "stats": {"failed_uploads_deleted": 1, "old_closures_deleted": 2, "objects_marked_for_deletion": 3,
                "objects_deleted_after_grace_period": 4, "objects_failed_to_delete": 0, "bytes_freed": 5},
            "started_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"});
        let run = last_run(&job("a", "Complete", "2026-01-01T00:00:00Z"), &[pod(&json!(result.to_string()))])
            .unwrap();
        assert_eq!(
            (run.result, run.closures_deleted, run.bytes_freed),
            (RunResult::Succeeded, Some(2), Some(5))
        );
        assert_eq!(run.finished_at.as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(run.message, None);
    }

    #[test]
    fn a_failure_says_what_the_log_said_last() {
        let failed = job("a", "Failed", "2026-01-01T00:00:00Z");
        let run = last_run(&failed, &[pod(&json!("error: 403\n"))]).unwrap();
        assert_eq!((run.result, run.message.as_deref()), (RunResult::Failed, Some("error: 403")));
        assert_eq!(last_run(&failed, &[]).unwrap().message.as_deref(), Some("of the Job"));
    }
}
