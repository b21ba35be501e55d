//! Pure: a Job of `niks3 fsck` and its pods become what the status says of the last comparison.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use niks3_protocol::api::fsck::FsckStatus;
use niks3_protocol::api::gc::GcState;

use crate::crd::gc_policy::{FsckResult, LastFsck, RunResult};
use crate::status::timestamp;

use super::last_run::{ended, message_of_last_pod, started, told};

/// What the status says of a Job that ended.
pub(super) fn last_fsck(job: &Job, pods: &[Pod]) -> Option<LastFsck> {
    let (at, result, message) = ended(job)?;
    let mut fsck = LastFsck {
        job_name: job.name_any(),
        started_at: started(job),
        finished_at: Some(timestamp(at)),
        result: FsckResult::Failed,
        reason: None,
        objects: None,
        findings: None,
        repaired: None,
        message: None,
    };
    let left = message_of_last_pod(pods);
    match left.as_deref().map(serde_json::from_str::<FsckStatus>) {
        Some(Ok(status)) => {
            let found = &status.summary;
            fsck.result = match status.state {
                GcState::Succeeded if found.is_clean() => FsckResult::Clean,
                GcState::Succeeded => FsckResult::Damaged,
                _ => FsckResult::Failed,
            };
            fsck.reason = status.reason.map(|reason| format!("{reason:?}"));
            let count = |count: u64| i64::try_from(count).ok();
            fsck.objects = count(found.objects);
            fsck.findings = count(found.findings());
            fsck.repaired = count(found.repaired);
            let first: Vec<String> =
                status.findings.iter().map(|one| format!("{} ({})", one.key, one.kind)).collect();
            fsck.message = status.error.or((!first.is_empty()).then(|| first.join(", ")));
        }
        Some(Err(_)) => fsck.message = left,
        // The pod is gone: the Job alone says how it went.
        None if result == RunResult::Succeeded => fsck.result = FsckResult::Clean,
        None => {}
    }
    fsck.message = told(fsck.message, fsck.result == FsckResult::Failed, message);
    Some(fsck)
}

/// A comparison in one sentence.
pub(super) fn sentence(fsck: &LastFsck) -> String {
    let LastFsck { job_name, message, .. } = fsck;
    let message = message.as_deref().unwrap_or("no reason is known");
    let (objects, findings) = (fsck.objects.unwrap_or(0), fsck.findings.unwrap_or(0));
    match fsck.result {
        FsckResult::Clean if findings == 0 => {
            format!("Job {job_name}: {objects} objects are as they should be")
        }
        FsckResult::Clean => {
            format!("Job {job_name}: of {objects} objects {findings} differed and were repaired: {message}")
        }
        FsckResult::Damaged => {
            let left = findings - fsck.repaired.unwrap_or(0);
            format!("Job {job_name}: of {objects} objects {findings} differ, {left} are left so: {message}")
        }
        FsckResult::Failed => format!("Job {job_name} failed: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(condition: &str) -> Job {
        let at = "2026-01-01T00:00:00Z";
        serde_json::from_value(
            json!({"metadata": {"name": "main-fsck-1"}, "status": {"startTime": at, "conditions": [
            {"type": condition, "status": "True", "lastTransitionTime": at, "message": "of the Job"}]}}),
        )
        .unwrap()
    }

    fn pod(message: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"containerStatuses": [{"name": "gc", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": 3, "message": message}}}]}}))
        .unwrap()
    }

    fn left(more: &Value) -> Value {
        let mut status = json!({"id": 7, "state": "succeeded", "phase": "compare", "params": {}, "summary": {"objects": 9},
            "started_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"});
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!(status.to_string())
    }

    #[test]
    fn the_job_says_how_it_went_and_its_last_words_what_was_found() {
        let finding = json!([{"kind": "missing", "key": "nar/1.nar", "detail": "it is not there"}]);
        let damage = json!({"summary": {"objects": 9, "missing": 2, "repaired": 1}, "findings": finding});
        let stopped = json!({"state": "failed", "reason": "SafetyLimitReached", "error": "2 of 9 differ"});
        for (condition, message, result, said) in [
            ("Complete", left(&json!({})), FsckResult::Clean, "9 objects are as they should be"),
            (
                "Failed",
                left(&damage),
                FsckResult::Damaged,
                "of 9 objects 2 differ, 1 are left so: nar/1.nar (missing)",
            ),
            ("Failed", left(&stopped), FsckResult::Failed, "failed: 2 of 9 differ"),
            ("Failed", json!("error: 403\n"), FsckResult::Failed, "failed: error: 403"),
            ("Failed", json!(null), FsckResult::Failed, "failed: of the Job"),
        ] {
            let fsck = last_fsck(&job(condition), &[pod(&message)]).unwrap();
            assert_eq!(fsck.result, result, "{message}");
            assert!(sentence(&fsck).ends_with(said), "{}", sentence(&fsck));
        }
    }
}
