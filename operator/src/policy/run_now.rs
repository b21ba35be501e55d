//! Pure: the annotation `niks3.dev/run-now`, which asks for one collection beside the schedule, of each cache. What became
//! of it stands in the status, and the Jobs are named after it, so that one time is one Job whatever is lost.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::asked::{asked, asked_at};
use crate::crd::GCPolicy;
use crate::crd::gc_policy::{RUN_NOW, RunNow, RunNowCache};
use crate::labels::Names;

use super::validate::{Invalid, Validated, listed};

/// What to do about the annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Nothing: there is none, or it was dealt with.
    Settled(Option<RunNow>),
    /// Its time has not come.
    Later(RunNow, SignedDuration),
    /// It cannot be carried out now; it may be later.
    Waiting(RunNow),
    /// It will never be carried out.
    Refused(RunNow),
    /// Make these Jobs.
    Due(RunNow, Vec<Once>),
}

/// One collection beside the schedule, of one cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// The cache.
    pub cache: String,
    /// Its Job.
    pub job_name: String,
    /// How it differs from those of the schedule.
    pub how: How,
}

/// How a collection differs from those of the schedule: a word behind the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It does not.
    AsScheduled,
    /// It only says what would go.
    DryRun,
    /// `spec.safety` does not stop it.
    OverrideSafety,
    /// It compares bucket and database in place of collecting.
    Fsck,
}

impl How {
    /// The annotation's value for a collection at this time.
    pub fn value(self, at: Timestamp) -> String {
        let at = asked(at);
        match self {
            Self::AsScheduled => at,
            Self::DryRun => format!("{at} DryRun"),
            Self::OverrideSafety => format!("{at} OverrideSafety"),
            Self::Fsck => format!("{at} Fsck"),
        }
    }

    fn of(word: &str) -> Option<Self> {
        match word {
            "" => Some(Self::AsScheduled),
            "DryRun" => Some(Self::DryRun),
            "OverrideSafety" => Some(Self::OverrideSafety),
            "Fsck" => Some(Self::Fsck),
            _ => None,
        }
    }
}

/// Said of a request whose time has not come.
pub const TOO_EARLY: &str = "its time has not come";

impl Request {
    /// For the status.
    pub fn told(&self) -> Option<&RunNow> {
        match self {
            Self::Settled(told) => told.as_ref(),
            Self::Later(told, _) | Self::Waiting(told) | Self::Refused(told) | Self::Due(told, _) => {
                Some(told)
            }
        }
    }

    /// The Jobs to make.
    pub fn due(&self) -> &[Once] {
        if let Self::Due(_, due) = self { due } else { &[] }
    }
}

/// The Jobs that were made for a request.
pub fn jobs(told: &RunNow) -> Vec<&String> {
    let of_caches: Vec<&String> = told.caches.iter().filter_map(|cache| cache.job_name.as_ref()).collect();
    // Told by an operator that knew one cache of a policy alone.
    if of_caches.is_empty() { told.job_name.iter().collect() } else { of_caches }
}

/// What a policy's annotation asks for.
pub fn request(policy: &GCPolicy, valid: &Result<Validated, Invalid>, now: Timestamp) -> Request {
    let Some(requested) = policy.metadata.annotations.as_ref().and_then(|all| all.get(RUN_NOW)).cloned()
    else {
        return Request::Settled(None);
    };
    let before = policy.status.as_ref().and_then(|status| status.run_now.clone());
    let before = before.filter(|before| before.requested == requested && !jobs(before).is_empty());
    if let Some(before) = before.as_ref().filter(|before| before.caches.iter().all(|c| c.job_name.is_some()))
    {
        return Request::Settled(Some(before.clone()));
    }
    let told = RunNow { requested: requested.clone(), job_name: None, message: None, caches: Vec::new() };
    let why = |message: String| RunNow { message: Some(message), ..told.clone() };
    let (time, word) = requested.split_once(' ').unwrap_or((&requested, ""));
    let at = match asked_at(time, now) {
        Ok(at) => at,
        Err(wrong) => return Request::Refused(why(wrong)),
    };
    let Some(how) = How::of(word.trim()) else {
        return Request::Refused(why(format!(
            "{word:?} behind the time is none of DryRun, OverrideSafety and Fsck"
        )));
    };
    if at > now {
        return Request::Later(why(TOO_EARLY.to_owned()), at.duration_since(now));
    }
    let deadline = policy.spec.starting_deadline_seconds;
    let late = now.duration_since(at) > SignedDuration::from_secs(deadline);
    match (valid, before) {
        // What was not begun for some of the caches is not begun any more.
        (_, Some(before)) if late => Request::Settled(Some(before)),
        (_, None) if late => Request::Refused(why(format!(
            "it was asked for more than startingDeadlineSeconds ({deadline}) ago; ask again"
        ))),
        (Err(_), Some(before)) => Request::Waiting(before),
        (Err(invalid), None) => Request::Waiting(why(invalid.message.clone())),
        (Ok(valid), before) => begin(policy, valid, how, before.as_ref(), told),
    }
}

/// Begins for each cache what is not begun yet: of those that the policy had when it began the first.
fn begin(
    policy: &GCPolicy,
    valid: &Validated,
    how: How,
    before: Option<&RunNow>,
    mut told: RunNow,
) -> Request {
    let uid = policy.metadata.uid.clone().unwrap_or_default();
    if let Some(before) = before {
        told.caches.clone_from(&before.caches);
    } else {
        let name = |name: &str| RunNowCache { name: name.to_owned(), job_name: None, message: None };
        told.caches = valid.caches.iter().map(|valid| name(&valid.cache)).collect();
    }
    let mut due = Vec::new();
    for cache in told.caches.iter_mut().filter(|cache| cache.job_name.is_none()) {
        let Some(valid) = valid.caches.iter().find(|valid| valid.cache == cache.name) else { continue };
        if valid.cache_suspended {
            cache.message = Some(format!("BinaryCache {} is suspended", cache.name));
            continue;
        }
        let job_name = job_name(&cache.name, &uid, &told.requested);
        cache.job_name = Some(job_name.clone());
        cache.message = None;
        due.push(Once { cache: cache.name.clone(), job_name, how });
    }
    if policy.spec.cache_ref.is_some() {
        told.job_name = due.first().map(|once| once.job_name.clone());
    }
    if !due.is_empty() {
        return Request::Due(told, due);
    }
    if before.is_none() {
        let messages: Vec<String> = told.caches.drain(..).filter_map(|cache| cache.message).collect();
        told.message = Some(listed(messages.into_iter(), "; "));
    }
    Request::Waiting(told)
}

/// The same for the same time, so that a Job is made once.
fn job_name(cache: &str, uid: &str, requested: &str) -> String {
    let digest = Sha256::digest(format!("{uid} {requested}").as_bytes());
    format!("{}-{}", Names(cache).gc(), hex::encode(&digest[..5]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: &str = "2026-01-01T12:00:00Z";

    fn asked(annotation: Option<&str>, status: &serde_json::Value) -> GCPolicy {
        serde_json::from_value(json!({
            "metadata": {"name": "nightly", "annotations": annotation.map(|text| json!({RUN_NOW: text}))},
            "spec": {"cacheRef": {"name": "main"}, "schedule": "@daily", "retention": {}},
            "status": status
        }))
        .unwrap()
    }

    fn answer(annotation: &str, status: &serde_json::Value) -> Request {
        let invalid = Invalid {
            about: crate::crd::conditions::ConditionType::CachesResolved,
            reason: crate::crd::conditions::Reason::CacheNotFound,
            message: "no cache".to_owned(),
        };
        request(&asked(Some(annotation), status), &Err(invalid), NOW.parse().unwrap())
    }

    #[test]
    fn a_time_is_waited_for_and_runs_out() {
        let message = |request: Request| request.told().and_then(|told| told.message.clone()).unwrap();
        let none = request(&asked(None, &json!(null)), &answer_error(), NOW.parse().unwrap());
        assert_eq!(none, Request::Settled(None));
        let wrong = answer("now", &json!(null));
        assert!(matches!(wrong, Request::Refused(_)));
        assert_eq!(message(wrong), r#""now" is no RFC 3339 time such as 2026-01-01T12:00:00Z"#);
        let wrong = answer("2026-01-01T12:00:00Z Dryrun", &json!(null));
        assert_eq!(message(wrong), r#""Dryrun" behind the time is none of DryRun, OverrideSafety and Fsck"#);
        assert!(matches!(answer("2026-01-01T12:00:00Z DryRun", &json!(null)), Request::Waiting(_)));
        let Request::Later(_, wait) = answer("2026-01-01T12:00:30Z", &json!(null)) else { panic!() };
        assert_eq!(wait.as_secs(), 30);
        assert!(matches!(answer("2026-01-01T10:59:59Z", &json!(null)), Request::Refused(_)));
        assert!(matches!(answer("2026-01-01T13:00:01+02:00", &json!(null)), Request::Waiting(_)));
    }

    fn answer_error() -> Result<Validated, Invalid> {
        Err(Invalid {
            about: crate::crd::conditions::ConditionType::Accepted,
            reason: crate::crd::conditions::Reason::InvalidSpec,
            message: String::new(),
        })
    }

    #[test]
    fn what_was_made_is_not_made_again() {
        let at = "2026-01-01T12:00:00Z";
        let made = json!({"runNow": {"requested": at, "jobName": "main-gc-1"}});
        assert!(matches!(answer(at, &made), Request::Settled(Some(_))));
        let old = json!({"runNow": {"requested": "2025-01-01T12:00:00Z", "jobName": "main-gc-1"}});
        assert!(matches!(answer(at, &old), Request::Waiting(_)));
        assert_eq!(job_name("main", "u", at), job_name("main", "u", at));
        assert_ne!(job_name("main", "u", at), job_name("main", "v", at));
    }
}
