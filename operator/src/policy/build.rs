//! Pure and infallible: a valid policy becomes, for each of its caches, a CronJob that runs `niks3 gc`, and who it
//! runs as.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{
    CronJob, CronJobSpec, Job, JobSpec, JobTemplateSpec, PodFailurePolicy,
    PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Container, PodSpec, PodTemplateSpec, ProjectedVolumeSource, ServiceAccount,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use niks3_protocol::api::fsck::{FsckMode, FsckParams};
use niks3_protocol::api::gc::GcParams;

use crate::cache::build::{SECRET_MODE, USER, env, hardened, pull_secrets, read_only, secret_volume};
use crate::labels::{CA_FILE, Component, FSCK, Names, POLICY_LABEL, TASK_LABEL, child, labels};

use super::run_now::{How, Once};
use super::validate::ValidPolicy;

const TOKEN_FOLDER: &str = "/var/run/secrets/niks3";
const CA_FOLDER: &str = "/var/run/niks3/ca";
/// The kubelet renews the token long before.
const TOKEN_SECONDS: i64 = 3600;
/// The client's exit codes for a wrong configuration or permission, and for damage that was found: trying again would
/// not help.
const NOT_WORTH_RETRYING: [i32; 2] = [2, 3];
/// Where Kubernetes takes a container's last words from.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// The children of a policy; none where it cannot be carried out.
#[derive(Debug, Default)]
pub struct Resources {
    /// Who collects: one for each cache, which lets exactly this account.
    pub service_accounts: Vec<ServiceAccount>,
    /// When they are collected, and when bucket and database are compared.
    pub cron_jobs: Vec<CronJob>,
    /// Once, beside the schedule.
    pub run_now: Vec<Job>,
}

/// The children of a policy, and the Jobs of one collection beside the schedule.
pub fn build(caches: &[ValidPolicy], run_now: &[Once]) -> Resources {
    let of_cache = |once: &Once| caches.iter().find(|policy| policy.cache == once.cache);
    Resources {
        service_accounts: caches.iter().map(service_account).collect(),
        cron_jobs: caches.iter().flat_map(cron_jobs).collect(),
        run_now: run_now.iter().filter_map(|once| Some(job_of(of_cache(once)?, once))).collect(),
    }
}

fn service_account(policy: &ValidPolicy) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(policy),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

fn metadata(policy: &ValidPolicy) -> ObjectMeta {
    let labels = labels(&policy.cache, Component::Gc);
    child(Names(&policy.cache).gc(), &policy.namespace, labels, Some(&policy.owner))
}

fn cron_jobs(policy: &ValidPolicy) -> Vec<CronJob> {
    let names = Names(&policy.cache);
    let collects = cron_job(policy, names.gc(), &policy.schedule, &Task::Collect(&policy.limits));
    let compares = policy
        .fsck_schedule
        .as_ref()
        .map(|schedule| cron_job(policy, names.fsck(), schedule, &Task::Compare(&policy.fsck)));
    std::iter::once(collects).chain(compares).collect()
}

fn cron_job(policy: &ValidPolicy, name: String, schedule: &str, task: &Task<'_>) -> CronJob {
    let labelled = ObjectMeta { labels: Some(job_labels(policy, task)), ..ObjectMeta::default() };
    CronJob {
        metadata: ObjectMeta { name: Some(name), ..metadata(policy) },
        spec: Some(CronJobSpec {
            schedule: schedule.to_owned(),
            time_zone: Some(policy.time_zone.clone()),
            suspend: Some(policy.suspended.is_some()),
            concurrency_policy: Some(policy.concurrency.as_str().to_owned()),
            starting_deadline_seconds: Some(policy.starting_deadline),
            successful_jobs_history_limit: Some(policy.successful_jobs),
            failed_jobs_history_limit: Some(policy.failed_jobs),
            job_template: JobTemplateSpec {
                metadata: Some(labelled.clone()),
                spec: Some(job(policy, task, labelled)),
            },
        }),
        status: None,
    }
}

fn job_labels(policy: &ValidPolicy, task: &Task<'_>) -> BTreeMap<String, String> {
    let mut labels = labels(&policy.cache, Component::Gc);
    labels.insert(POLICY_LABEL.to_owned(), policy.name.clone());
    if matches!(task, Task::Compare(_)) {
        labels.insert(TASK_LABEL.to_owned(), FSCK.to_owned());
    }
    labels
}

fn job_of(policy: &ValidPolicy, once: &Once) -> Job {
    let mut limits = policy.limits.clone();
    match once.how {
        How::AsScheduled | How::Fsck => {}
        How::DryRun => limits.dry_run = true,
        How::OverrideSafety => {
            limits.max_delete_percent = None;
            limits.max_delete_objects = None;
        }
    }
    let task = if once.how == How::Fsck { Task::Compare(&policy.fsck) } else { Task::Collect(&limits) };
    let labels = job_labels(policy, &task);
    let labelled = ObjectMeta { labels: Some(labels.clone()), ..ObjectMeta::default() };
    Job {
        metadata: child(once.job_name.clone(), &policy.namespace, labels, Some(&policy.owner)),
        spec: Some(job(policy, &task, labelled)),
        status: None,
    }
}

fn job(policy: &ValidPolicy, task: &Task<'_>, metadata: ObjectMeta) -> JobSpec {
    JobSpec {
        backoff_limit: Some(policy.job.backoff_limit),
        active_deadline_seconds: Some(policy.job.active_deadline_seconds),
        ttl_seconds_after_finished: Some(policy.job.ttl_seconds_after_finished),
        pod_failure_policy: Some(PodFailurePolicy {
            rules: vec![PodFailurePolicyRule {
                action: "FailJob".to_owned(),
                on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                    container_name: None,
                    operator: "In".to_owned(),
                    values: NOT_WORTH_RETRYING.to_vec(),
                }),
                on_pod_conditions: None,
            }],
        }),
        template: PodTemplateSpec { metadata: Some(metadata), spec: Some(pod(policy, task)) },
        ..JobSpec::default()
    }
}

/// What a Job does.
enum Task<'a> {
    Collect(&'a GcParams),
    Compare(&'a FsckParams),
}

/// What `niks3 fsck` is told.
fn fsck_arguments(params: &FsckParams) -> Vec<String> {
    let mut arguments = vec!["fsck".to_owned(), format!("--result-file={TERMINATION_LOG}")];
    if params.mode == FsckMode::Repair {
        arguments.push("--repair".to_owned());
    }
    if params.deep {
        arguments.push("--deep".to_owned());
    }
    arguments.extend(params.max_delete_percent.map(|percent| format!("--max-delete-percent={percent}")));
    arguments.extend(params.max_delete_objects.map(|count| format!("--max-delete-objects={count}")));
    arguments
}

/// What `niks3 gc` is told.
fn arguments(limits: &GcParams) -> Vec<String> {
    let mut arguments = vec!["gc".to_owned()];
    let mut add = |flag: &str, value: Option<String>| {
        arguments.extend(value.map(|value| format!("--{flag}={value}")));
    };
    add("older-than", limits.older_than.map(|age| age.to_string()));
    add("max-size", limits.max_size.map(|bytes| bytes.to_string()));
    add("min-age", limits.min_age.map(|age| age.to_string()));
    add("keep-if-read-within", limits.keep_if_read_within.map(|age| age.to_string()));
    for rule in &limits.pin_rules {
        add("pin-rule", Some(rule.to_string()));
    }
    add("max-delete-percent", limits.max_delete_percent.map(|percent| percent.to_string()));
    add("max-delete-objects", limits.max_delete_objects.map(|count| count.to_string()));
    add("failed-uploads-older-than", Some(limits.failed_uploads_older_than.to_string()));
    add("deletion-grace", limits.deletion_grace.map(|grace| grace.to_string()));
    add("result-file", Some(TERMINATION_LOG.to_owned()));
    if limits.dry_run {
        arguments.push("--dry-run".to_owned());
    }
    arguments
}

fn pod(policy: &ValidPolicy, task: &Task<'_>) -> PodSpec {
    let job = &policy.job;
    let mut environment = vec![
        env("NIKS3_SERVER_URL", &policy.endpoint),
        env("NIKS3_AUTH_TOKEN_FILE", &format!("{TOKEN_FOLDER}/token")),
    ];
    let (mut mounts, mut volumes) = (vec![read_only("token", TOKEN_FOLDER)], vec![token(policy)]);
    if let Some(secret) = &policy.server_ca {
        environment.push(env("NIKS3_CA_CERT", &format!("{CA_FOLDER}/{CA_FILE}")));
        mounts.push(read_only("ca", CA_FOLDER));
        volumes.push(secret_volume("ca", secret, &[(CA_FILE, CA_FILE)]));
    }
    let container = Container {
        name: "gc".to_owned(),
        image: Some(policy.image.clone()),
        image_pull_policy: policy.pull_policy.map(|pull| pull.as_str().to_owned()),
        command: Some(vec!["/usr/local/bin/niks3".to_owned()]),
        args: Some(match task {
            Task::Collect(limits) => arguments(limits),
            Task::Compare(params) => fsck_arguments(params),
        }),
        env: Some(environment),
        resources: Some(policy.job.resources.to_api()),
        termination_message_path: Some(TERMINATION_LOG.to_owned()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        image_pull_secrets: pull_secrets(&policy.pull_secrets),
        service_account_name: Some(Names(&policy.cache).gc()),
        node_selector: (!job.node_selector.is_empty()).then(|| job.node_selector.clone()),
        tolerations: (!job.tolerations.is_empty()).then(|| job.tolerations.clone()),
        ..hardened(USER, container, volumes)
    }
}

/// Proves to the cache, and to nobody else, who collects.
fn token(policy: &ValidPolicy) -> Volume {
    Volume {
        name: "token".to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(SECRET_MODE),
            sources: Some(vec![VolumeProjection {
                service_account_token: Some(ServiceAccountTokenProjection {
                    audience: Some(policy.audience.clone()),
                    expiration_seconds: Some(TOKEN_SECONDS),
                    path: "token".to_owned(),
                }),
                ..VolumeProjection::default()
            }]),
        }),
        ..Volume::default()
    }
}
