//! The server's pods.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapProjection, ConfigMapVolumeSource, Container, ContainerPort, HTTPGetAction,
    KeyToPath, Lifecycle, LifecycleHandler, PodSpec, PodTemplateSpec, Probe, ProjectedVolumeSource,
    SecretProjection, ServiceAccountTokenProjection, SleepAction, TopologySpreadConstraint, Volume,
    VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sha2::{Digest as _, Sha256};

use crate::cache::validate::{Database, SecretFile, Storage, ValidCache};
use crate::crd::binary_cache::Scheduling;
use crate::labels::{CONFIG_HASH, Component, Names, SECRET_VERSIONS, child, labels, selector};

use super::config_map::{
    CONFIG_FILE, CONFIG_FOLDER, DATABASE_FOLDER, KUBERNETES_FOLDER, S3_FOLDER, SIGNING_FOLDER, TOKENS_FOLDER,
};
use super::pod::{
    SECRET_MODE, USER, empty_dir, env, file_volume, hardened, mount, pull_secrets, read_only, secret_volume,
};
use super::{SERVER_PORT, secrets};

/// Between a pod leaving the Service and its end: proxies need a moment to notice.
const LEAVE_SECONDS: i64 = 5;
/// Requests under way may go on for so long.
const GRACE_SECONDS: i64 = 60;
/// The kubelet renews the token long before.
const TOKEN_SECONDS: i64 = 3600;

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
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels(&cache.name, Component::Server)),
                    annotations: Some(
                        [
                            (CONFIG_HASH.to_owned(), config_hash(config)),
                            (SECRET_VERSIONS.to_owned(), secret_versions(cache)),
                        ]
                        .into(),
                    ),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(cache, &selected)),
            },
            selector: selected,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn config_hash(config: &ConfigMap) -> String {
    let text = config.data.as_ref().and_then(|data| data.get(CONFIG_FILE)).map_or("", String::as_str);
    hex::encode(&Sha256::digest(text.as_bytes())[..16])
}

fn secret_versions(cache: &ValidCache) -> String {
    let pairs: Vec<String> =
        cache.secret_versions.iter().map(|(name, version)| format!("{name}={version}")).collect();
    pairs.join(",")
}

fn pod(cache: &ValidCache, selected: &LabelSelector) -> PodSpec {
    let (volumes, volume_mounts) = volumes(cache);
    let container = Container {
        name: "server".to_owned(),
        image: Some(cache.image.clone()),
        image_pull_policy: cache.pull_policy.map(|policy| policy.as_str().to_owned()),
        command: Some(vec!["/usr/local/bin/niks3-server".to_owned()]),
        env: Some(vec![env("NIKS3_CONFIG", &format!("{CONFIG_FOLDER}/{CONFIG_FILE}"))]),
        ports: Some(vec![ContainerPort {
            name: Some("http".to_owned()),
            container_port: SERVER_PORT,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(cache.resources.to_api()),
        // A database that is away must not restart the server, so only readiness asks for it.
        startup_probe: Some(probe("/livez", 2, 60)),
        liveness_probe: Some(probe("/livez", 10, 3)),
        readiness_probe: Some(probe("/readyz", 5, 2)),
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
        service_account_name: Some(Names(&cache.name).server()),
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

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(SERVER_PORT),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn volumes(cache: &ValidCache) -> (Vec<Volume>, Vec<VolumeMount>) {
    let config = Volume {
        name: "config".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: Names(&cache.name).config(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    let database = match &cache.database {
        Database::Own(file) => file_volume("database", file, "uri"),
        Database::Embedded(server) => {
            secret_volume("database", &server.credentials.name, &[(secrets::URI, "uri")])
        }
    };
    let s3 = match &cache.storage {
        Storage::Own { access_key, secret_key, .. } => secret_volume(
            "s3",
            &access_key.secret,
            &[(&access_key.key, "access-key"), (&secret_key.key, "secret-key")],
        ),
        Storage::Embedded(server) => secret_volume(
            "s3",
            &server.credentials.name,
            &[(secrets::ACCESS_KEY, "access-key"), (secrets::SECRET_KEY, "secret-key")],
        ),
    };
    let mut volumes = vec![empty_dir("tmp"), config, database, s3, signing(cache)];
    let mut mounts = vec![
        mount("tmp", "/tmp"),
        read_only("config", CONFIG_FOLDER),
        read_only("database", DATABASE_FOLDER),
        read_only("s3", S3_FOLDER),
        read_only("signing", SIGNING_FOLDER),
    ];
    if !cache.tokens.is_empty() {
        volumes.push(tokens(cache));
        mounts.push(read_only("tokens", TOKENS_FOLDER));
    }
    if cache.audience.is_some() {
        volumes.push(kubernetes());
        mounts.push(read_only("kubernetes", KUBERNETES_FOLDER));
    }
    (volumes, mounts)
}

/// The keys that sign, in one folder.
fn signing(cache: &ValidCache) -> Volume {
    let keys: Vec<_> = cache.signing.signing().map(|key| (key.name.as_str(), &key.secret)).collect();
    match keys.as_slice() {
        [(name, file)] => file_volume("signing", file, name),
        keys => files("signing", keys),
    }
}

/// The shared secrets.
fn tokens(cache: &ValidCache) -> Volume {
    let tokens: Vec<_> = cache.tokens.iter().map(|token| (token.name.as_str(), &token.secret)).collect();
    files("tokens", &tokens)
}

/// Files, each from a Secret of its own, in one folder.
fn files(volume: &str, files: &[(&str, &SecretFile)]) -> Volume {
    let one = |(name, from): &(&str, &SecretFile)| VolumeProjection {
        secret: Some(SecretProjection {
            name: from.secret.clone(),
            items: Some(vec![KeyToPath { key: from.key.clone(), path: (*name).to_owned(), mode: None }]),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    projected(volume, files.iter().map(one).collect())
}

/// With this the server asks the API server for the keys that ServiceAccount tokens are signed with.
fn kubernetes() -> Volume {
    let token = VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            path: "token".to_owned(),
            expiration_seconds: Some(TOKEN_SECONDS),
            audience: None,
        }),
        ..VolumeProjection::default()
    };
    let ca = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: "kube-root-ca.crt".to_owned(),
            items: Some(vec![KeyToPath { key: "ca.crt".to_owned(), path: "ca.crt".to_owned(), mode: None }]),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    projected("kubernetes", vec![token, ca])
}

fn projected(name: &str, sources: Vec<VolumeProjection>) -> Volume {
    Volume {
        name: name.to_owned(),
        projected: Some(ProjectedVolumeSource { sources: Some(sources), default_mode: Some(SECRET_MODE) }),
        ..Volume::default()
    }
}
