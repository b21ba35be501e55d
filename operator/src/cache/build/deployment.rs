//! The server's pods.

use k8s_openapi::DeepMerge as _;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, ContainerPort, EnvVar, HTTPGetAction, Lifecycle, LifecycleHandler, PodSpec,
    PodTemplateSpec, Probe, SleepAction, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sha2::{Digest as _, Sha256};

use crate::cache::validate::{Database, Storage, ValidCache};
use crate::crd::binary_cache::Scheduling;
use crate::labels::{CONFIG_HASH, Component, Names, SECRET_VERSIONS, child, labels, selector};

use super::config_map::{CONFIG_FILE, CONFIG_FOLDER};
use super::pod::{USER, env, hardened, pull_secrets, secret_env};
use super::volumes::volumes;
use super::{SERVER_PORT, service, service_account};

/// Between a pod leaving the Service and its end: proxies need a moment to notice.
const LEAVE_SECONDS: i64 = 5;
/// Requests under way may go on for so long.
const GRACE_SECONDS: i64 = 60;

pub(super) fn server(cache: &ValidCache, config: &ConfigMap) -> Deployment {
    let selected = LabelSelector {
        match_labels: Some(selector(&cache.name, Component::Server)),
        match_expressions: None,
    };
    let metadata = child(
        Names(&cache.name).server(),
        &cache.namespace,
        labels(&cache.name, Component::Server),
        Some(&cache.owner),
    );
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: cache.replicas,
            revision_history_limit: Some(3),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: template(cache, config, &selected),
            selector: selected,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// The operator's template, then the user's, then what must be as the operator says.
fn template(cache: &ValidCache, config: &ConfigMap, selected: &LabelSelector) -> PodTemplateSpec {
    let ours = ObjectMeta {
        labels: Some(labels(&cache.name, Component::Server)),
        annotations: Some(
            [
                (CONFIG_HASH.to_owned(), config_hash(cache, config)),
                (SECRET_VERSIONS.to_owned(), secret_versions(cache)),
            ]
            .into(),
        ),
        ..ObjectMeta::default()
    };
    let mut template =
        PodTemplateSpec { metadata: Some(ours.clone()), spec: Some(pod(cache, config, selected)) };
    if let Some(users) = &cache.pod_template {
        template.merge_from(PodTemplateSpec::clone(users));
        // Selectors and rollouts go by these.
        template.metadata.merge_from(Some(ours));
    }
    template
}

/// Pods learn of their ServiceAccount's annotations when they are made.
fn config_hash(cache: &ValidCache, config: &ConfigMap) -> String {
    let text = config.data.as_ref().and_then(|data| data.get(CONFIG_FILE)).map_or("", String::as_str);
    let mut hasher = Sha256::new_with_prefix(text.as_bytes());
    for (key, value) in cache.identity().iter().flat_map(|identity| &identity.service_account_annotations) {
        hasher.update(format!("\n{key}={value}"));
    }
    hex::encode(&hasher.finalize()[..16])
}

fn secret_versions(cache: &ValidCache) -> String {
    let pairs: Vec<String> =
        cache.secret_versions.iter().map(|(name, version)| format!("{name}={version}")).collect();
    pairs.join(",")
}

fn pod(cache: &ValidCache, config: &ConfigMap, selected: &LabelSelector) -> PodSpec {
    let (volumes, volume_mounts) = volumes(cache, config);
    let container = Container {
        name: "server".to_owned(),
        image: Some(cache.image.clone()),
        image_pull_policy: cache.pull_policy.map(|policy| policy.as_str().to_owned()),
        command: Some(vec!["/usr/local/bin/niks3-server".to_owned()]),
        env: Some(environment(cache)),
        ports: Some(vec![ContainerPort {
            name: Some(service::port(cache).0.to_owned()),
            container_port: SERVER_PORT,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(cache.resources.to_api()),
        // A database that is away must not restart the server, so only readiness asks for it.
        startup_probe: Some(probe(cache, "/livez", 2, 60)),
        liveness_probe: Some(probe(cache, "/livez", 10, 3)),
        readiness_probe: Some(probe(cache, "/readyz", 5, 2)),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: LEAVE_SECONDS }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(volume_mounts),
        ..Container::default()
    };
    let scheduling = &cache.scheduling;
    PodSpec {
        service_account_name: Some(service_account::name(cache)),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        image_pull_secrets: pull_secrets(&cache.pull_secrets),
        node_selector: (!scheduling.node_selector.is_empty()).then(|| scheduling.node_selector.clone()),
        tolerations: (!scheduling.tolerations.is_empty()).then(|| scheduling.tolerations.clone()),
        affinity: scheduling.affinity.clone(),
        priority_class_name: scheduling.priority_class_name.clone(),
        topology_spread_constraints: spread(scheduling, selected),
        ..hardened(USER, container, volumes)
    }
}

/// Where the configuration is, and the parts of a database's address that stand in no single key of a Secret.
fn environment(cache: &ValidCache) -> Vec<EnvVar> {
    let mut all = vec![env("NIKS3_CONFIG", &format!("{CONFIG_FOLDER}/{CONFIG_FILE}"))];
    // Of what one push does at once, the server's file says nothing.
    if let Storage::Own { concurrency, .. } = &cache.storage {
        all.push(env("NIKS3_S3_CONCURRENCY", &concurrency.to_string()));
    }
    if let Database::Connection { to, user, password } = &cache.database {
        all.push(secret_env("NIKS3_DB_USER", user));
        all.push(secret_env("NIKS3_DB_PASSWORD", password));
        // The kubelet puts the two in their places: no text of ours ever holds them.
        let address = format!(
            "host={} port={} dbname={} sslmode={} user=$(NIKS3_DB_USER) password=$(NIKS3_DB_PASSWORD)",
            to.host,
            to.port,
            to.database,
            to.ssl_mode.as_str()
        );
        all.push(env("NIKS3_DB", &address));
    }
    all
}

/// What the spec says of its pods, or softly over hosts and zones.
fn spread(scheduling: &Scheduling, selected: &LabelSelector) -> Option<Vec<TopologySpreadConstraint>> {
    let of_server = |constraint: TopologySpreadConstraint| TopologySpreadConstraint {
        label_selector: constraint.label_selector.or_else(|| Some(selected.clone())),
        ..constraint
    };
    let softly = || {
        ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
            .map(|key| TopologySpreadConstraint {
                max_skew: 1,
                topology_key: key.to_owned(),
                when_unsatisfiable: "ScheduleAnyway".to_owned(),
                ..TopologySpreadConstraint::default()
            })
            .to_vec()
    };
    let constraints = scheduling.topology_spread_constraints.clone().unwrap_or_else(softly);
    (!constraints.is_empty()).then(|| constraints.into_iter().map(of_server).collect())
}

fn probe(cache: &ValidCache, path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(SERVER_PORT),
            scheme: cache.tls.as_ref().map(|_| "HTTPS".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}
