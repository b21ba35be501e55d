//! The S3 server and the PostgreSQL of a cache that brings none. One pod each on a volume that outlives them.

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EnvVarSource, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PodSpec, PodTemplateSpec, SecretKeySelector, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::cache::validate::credentials::role;
use crate::cache::validate::{Embedded, SecretFile, ValidCache};
use crate::labels::{Component, Names, SECRET_VERSIONS, child, labels, selector};

use super::pod::{USER, empty_dir, env, hardened, listens, mount, pull_secrets, read_only, secret_volume};
use super::secrets::{ACCESS_KEY, PASSWORD, SECRET_KEY, USERS};
use super::volumes;

pub(super) const S3_PORT: i32 = 7070;
pub(super) const S3_BUCKET: &str = "nix-cache";
pub(super) const POSTGRES_PORT: i32 = 5432;
pub(super) const POSTGRES_USER: &str = "niks3";
pub(super) const POSTGRES_DATABASE: &str = "niks3";
/// The user of the official image.
const POSTGRES_UID: i64 = 999;
const POSTGRES_GRACE_SECONDS: i64 = 60;
const DATA: &str = "data";
const DATA_FOLDER: &str = "/var/lib/postgresql/data";
const PGDATA: &str = "/var/lib/postgresql/data/pgdata";
/// Roles of the embedded PostgreSQL, each a file with its password.
const ROLES_FOLDER: &str = "/var/run/niks3/roles";
/// Where the embedded S3 server finds accounts beside its own.
const USERS_FOLDER: &str = "/var/run/niks3/users";

/// versitygw on a folder for objects and one for what is known of them. The second must not lie in the first.
pub(super) fn s3(cache: &ValidCache, server: &Embedded) -> StatefulSet {
    let credentials = &server.credentials;
    let sub = |folder: &str| VolumeMount {
        sub_path: Some(folder.to_owned()),
        ..mount(DATA, &format!("/data/{folder}"))
    };
    let from_secret = |name: &str, key: &str| EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: credentials.current.name.clone(),
                key: key.to_owned(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
    };
    let users = credentials.next.as_ref().map(|next| secret_volume("users", &next.name, &[(USERS, USERS)]));
    let mut arguments = vec!["--port", ":7070", "--quiet", "--keep-alive"];
    if users.is_some() {
        arguments.extend(["--iam-dir", USERS_FOLDER]);
    }
    arguments.extend(["posix", "--sidecar", "/data/meta", "/data/buckets"]);
    let mut mounts = vec![sub("buckets"), sub("meta"), mount("tmp", "/tmp")];
    mounts.extend(users.as_ref().map(|users| read_only(&users.name, USERS_FOLDER)));
    let container = Container {
        name: "s3".to_owned(),
        command: Some(vec!["/usr/local/bin/versitygw".to_owned()]),
        args: Some(arguments.into_iter().map(str::to_owned).collect()),
        env: Some(vec![
            from_secret("ROOT_ACCESS_KEY", ACCESS_KEY),
            from_secret("ROOT_SECRET_KEY", SECRET_KEY),
        ]),
        volume_mounts: Some(mounts),
        ..listening(cache, server, "s3", S3_PORT)
    };
    let volumes = [empty_dir("tmp")].into_iter().chain(users).collect();
    let pod = hardened(USER, container, volumes);
    stateful_set(cache, server, Names(&cache.name).s3(), Component::S3, pod)
}

pub(super) fn postgres(cache: &ValidCache, server: &Embedded) -> StatefulSet {
    let current = &server.credentials.current.name;
    let user = role(POSTGRES_USER, &cache.name, current);
    let container = Container {
        name: "postgres".to_owned(),
        env: Some(vec![
            env("POSTGRES_USER", &user),
            env("POSTGRES_DB", POSTGRES_DATABASE),
            env("POSTGRES_PASSWORD_FILE", "/var/run/niks3/password"),
            env("PGDATA", PGDATA),
        ]),
        volume_mounts: Some(vec![
            mount(DATA, DATA_FOLDER),
            mount("run", "/var/run/postgresql"),
            mount("tmp", "/tmp"),
            read_only("credentials", "/var/run/niks3"),
        ]),
        ..listening(cache, server, "postgres", POSTGRES_PORT)
    };
    let volumes = vec![
        empty_dir("run"),
        empty_dir("tmp"),
        secret_volume("credentials", current, &[(PASSWORD, "password")]),
    ];
    let mut pod = PodSpec {
        termination_grace_period_seconds: Some(POSTGRES_GRACE_SECONDS),
        ..hardened(POSTGRES_UID, container, volumes)
    };
    if server.credentials.progress.is_some() {
        roles(&mut pod, cache, server);
    }
    stateful_set(cache, server, Names(&cache.name).postgres(), Component::Postgres, pod)
}

/// Where credentials follow one another, the roles are set at each start: it is the one moment when nobody is served.
fn roles(pod: &mut PodSpec, cache: &ValidCache, server: &Embedded) {
    let files: Vec<(String, SecretFile)> = server
        .credentials
        .taken()
        .map(|one| {
            let file = SecretFile { secret: one.name.clone(), key: PASSWORD.to_owned() };
            (role(POSTGRES_USER, &cache.name, &one.name), file)
        })
        .collect();
    let files: Vec<(&str, &SecretFile)> = files.iter().map(|(role, file)| (role.as_str(), file)).collect();
    pod.volumes.get_or_insert_default().push(volumes::files("roles", &files));
    let main = pod.containers.first();
    let container = Container {
        name: "roles".to_owned(),
        image: Some(server.image.clone()),
        image_pull_policy: cache.pull_policy.map(|policy| policy.as_str().to_owned()),
        command: Some(["bash", "-c", include_str!("roles.sh")].map(str::to_owned).to_vec()),
        env: Some(vec![env("PGDATA", PGDATA), env("ROLES", ROLES_FOLDER)]),
        resources: Some(server.resources.to_api()),
        security_context: main.and_then(|main| main.security_context.clone()),
        volume_mounts: Some(vec![
            mount(DATA, DATA_FOLDER),
            mount("run", "/var/run/postgresql"),
            mount("tmp", "/tmp"),
            read_only("roles", ROLES_FOLDER),
        ]),
        ..Container::default()
    };
    pod.init_containers = Some(vec![container]);
}

fn listening(cache: &ValidCache, server: &Embedded, name: &str, port: i32) -> Container {
    Container {
        image: Some(server.image.clone()),
        image_pull_policy: cache.pull_policy.map(|policy| policy.as_str().to_owned()),
        ports: Some(vec![ContainerPort {
            name: Some(name.to_owned()),
            container_port: port,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(server.resources.to_api()),
        readiness_probe: Some(listens(port)),
        ..Container::default()
    }
}

fn stateful_set(
    cache: &ValidCache,
    server: &Embedded,
    name: String,
    component: Component,
    pod: PodSpec,
) -> StatefulSet {
    StatefulSet {
        metadata: child(name.clone(), &cache.namespace, labels(&cache.name, component), Some(&cache.owner)),
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            // In order, a pod that never becomes ready would keep away the template that puts it right.
            pod_management_policy: Some("Parallel".to_owned()),
            service_name: Some(name),
            revision_history_limit: Some(3),
            selector: LabelSelector {
                match_labels: Some(selector(&cache.name, component)),
                match_expressions: None,
            },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels(&cache.name, component)),
                    annotations: Some([(SECRET_VERSIONS.to_owned(), server.credentials.versions())].into()),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    service_account_name: Some(Names(&cache.name).server()),
                    image_pull_secrets: pull_secrets(&cache.pull_secrets),
                    ..pod
                }),
            },
            volume_claim_templates: Some(vec![claim(cache, server, component)]),
            // The volume is the cache: nothing that happens to this object may take it along.
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Retain".to_owned()),
                when_scaled: Some("Retain".to_owned()),
            }),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn claim(cache: &ValidCache, server: &Embedded, component: Component) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(DATA.to_owned()),
            labels: Some(selector(&cache.name, component)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: server.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(server.size.clone()))].into()),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
