//! `kubectl niks3 report`: all that explains a cache, as a tar.gz. Of Secrets only the metadata is asked for, and
//! what looks like a secret elsewhere is taken out.

mod archive;
mod redact;

use std::path::PathBuf;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, ListParams, LogParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use niks3_operator::cache::validate::tls_secret;
use niks3_operator::crd::BinaryCache;
use niks3_operator::crd::binary_cache::CloudNativePg;
use niks3_operator::labels::{Names, all_of};
use serde::Serialize;
use serde_json::Value;

use crate::args::ReportArgs;
use crate::cluster::{Cluster, said};
use crate::{say, status};

use self::archive::Archive;
use self::redact::Redactor;

/// A log takes no more than this, however long its lines are.
const LOG_BYTES: i64 = 4 << 20;

/// What is listed by its labels: group, version, kind and plural.
const CHILDREN: [(&str, &str, &str, &str); 18] = [
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ("batch", "v1", "CronJob", "cronjobs"),
    ("batch", "v1", "Job", "jobs"),
    ("cert-manager.io", "v1", "Certificate", "certificates"),
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Service", "services"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("gateway.networking.k8s.io", "v1", "BackendTLSPolicy", "backendtlspolicies"),
    ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
    ("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors"),
    ("networking.k8s.io", "v1", "Ingress", "ingresses"),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
];

pub(crate) async fn run(cluster: &Cluster, args: &ReportArgs) -> anyhow::Result<String> {
    let cache = cluster.cache(args.cache.as_deref()).await?;
    let name = cache.name_any();
    let path = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("niks3-report-{}-{name}.tar.gz", cluster.namespace)));
    let mut bundle = Bundle {
        cluster,
        lines: args.lines,
        archive: Archive::new(),
        redactor: Redactor::new()?,
        gaps: Vec::new(),
    };
    Box::pin(bundle.gather(cache, &args.operator_namespace)).await;
    let (gaps, files) = (bundle.gaps.len(), bundle.archive.files());
    let bytes = bundle.archive.finish(&bundle.gaps)?;
    std::fs::write(&path, bytes).with_context(|| format!("could not write {}", path.display()))?;
    if gaps > 0 {
        say(&format!("{gaps} things could not be read; gaps.txt in it names them"));
    }
    Ok(format!(
        "{}: {files} files. Secrets were not read; look through it before you pass it on.\n",
        path.display()
    ))
}

struct Bundle<'a> {
    cluster: &'a Cluster,
    lines: u32,
    archive: Archive,
    redactor: Redactor,
    /// What could not be read, and why.
    gaps: Vec<String>,
}

impl Bundle<'_> {
    async fn gather(&mut self, cache: BinaryCache, operator_namespace: &str) {
        let (namespace, name) = (self.cluster.namespace.clone(), cache.name_any());
        self.versions().await;
        let secrets = secrets_of(&cache);
        match status::of(self.cluster, cache, Timestamp::now()).await {
            Ok(screen) => self.text("status.txt", &screen),
            Err(error) => self.gaps.push(format!("status: {error:#}")),
        }
        for (kind, plural) in [("BinaryCache", "binarycaches"), ("GCPolicy", "gcpolicies")] {
            self.list(&namespace, ("niks3.dev", "v1alpha1", kind, plural), "").await;
        }
        for kind in CHILDREN {
            self.list(&namespace, kind, &all_of(&name)).await;
        }
        self.events(&namespace, &name).await;
        for secret in secrets {
            self.secret(&secret).await;
        }
        self.logs(&namespace, &format!("app.kubernetes.io/instance={name}")).await;
        let operator = "app.kubernetes.io/name=niks3-operator";
        self.list(operator_namespace, ("apps", "v1", "Deployment", "deployments"), operator).await;
        self.logs(operator_namespace, operator).await;
    }

    async fn versions(&mut self) {
        let plugin = format!("kubectl-niks3 {}\n", env!("CARGO_PKG_VERSION"));
        match self.cluster.client.apiserver_version().await {
            Ok(version) => {
                self.text("versions.txt", &format!("{plugin}Kubernetes {}\n", version.git_version));
            }
            Err(error) => self.gap("versions", error),
        }
    }

    /// The objects of a kind, each a file.
    async fn list(&mut self, namespace: &str, kind: (&str, &str, &str, &str), selector: &str) {
        let (group, version, kind, plural) = kind;
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let api: Api<DynamicObject> = Api::namespaced_with(self.cluster.client.clone(), namespace, &resource);
        match api.list(&ListParams::default().labels(selector)).await {
            Ok(list) => {
                for object in list.items {
                    self.object(namespace, plural, &object.name_any(), &object);
                }
            }
            // Kinds that the cluster does not know are no gap.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => self.gap(&format!("{plural} of {namespace}"), error),
        }
    }

    /// Those about the cache and what it is made of.
    async fn events(&mut self, namespace: &str, name: &str) {
        let kind = GroupVersionKind::gvk("", "v1", "Event");
        let resource = ApiResource::from_gvk_with_plural(&kind, "events");
        let api: Api<DynamicObject> = Api::namespaced_with(self.cluster.client.clone(), namespace, &resource);
        let events = match api.list(&ListParams::default()).await {
            Ok(events) => events.items,
            Err(error) => return self.gap(&format!("events of {namespace}"), error),
        };
        let mut lines: Vec<String> = events
            .iter()
            .map(|event| &event.data)
            .filter_map(|event| {
                let text = |at: &str| event.pointer(at).and_then(Value::as_str).unwrap_or("-");
                let about = text("/involvedObject/name");
                let ours = about == name
                    || about.starts_with(&format!("{name}-"))
                    || text("/involvedObject/kind") == "GCPolicy";
                let at = [text("/lastTimestamp"), text("/eventTime")]
                    .into_iter()
                    .find(|at| *at != "-")
                    .unwrap_or("-");
                ours.then(|| {
                    format!(
                        "{at} {} {} {}/{about}: {}\n",
                        text("/type"),
                        text("/reason"),
                        text("/involvedObject/kind"),
                        text("/message")
                    )
                })
            })
            .collect();
        lines.sort();
        self.text(&format!("{namespace}/events.txt"), &lines.concat());
    }

    /// That a Secret is there, and since when. The API server is asked for its metadata alone.
    async fn secret(&mut self, name: &str) {
        match self.cluster.api::<Secret>().get_metadata_opt(name).await {
            Ok(Some(found)) => self.object(&self.cluster.namespace.clone(), "secrets", name, &found),
            Ok(None) => self.gaps.push(format!("Secret {name} does not exist")),
            Err(error) => self.gap(&format!("Secret {name}"), error),
        }
    }

    /// The logs of pods, and of the containers that ran in them before.
    async fn logs(&mut self, namespace: &str, selector: &str) {
        let api: Api<Pod> = Api::namespaced(self.cluster.client.clone(), namespace);
        let pods = match api.list(&ListParams::default().labels(selector)).await {
            Ok(pods) => pods.items,
            Err(error) => return self.gap(&format!("pods of {namespace}"), error),
        };
        for pod in pods {
            let (name, status) = (pod.name_any(), pod.status.unwrap_or_default());
            let first = status.init_container_statuses.into_iter().flatten();
            for container in first.chain(status.container_statuses.into_iter().flatten()) {
                let (began, again) = (
                    container.started == Some(true)
                        || container.restart_count > 0
                        || container.state.as_ref().is_some_and(|state| state.terminated.is_some()),
                    container.restart_count > 0,
                );
                for (wanted, previous, suffix) in [(began, false, ""), (again, true, ".previous")] {
                    if !wanted {
                        continue;
                    }
                    let how = LogParams {
                        container: Some(container.name.clone()),
                        previous,
                        tail_lines: Some(self.lines.into()),
                        limit_bytes: Some(LOG_BYTES),
                        timestamps: true,
                        ..LogParams::default()
                    };
                    let path = format!("{namespace}/logs/{name}.{}{suffix}.log", container.name);
                    match api.logs(&name, &how).await {
                        Ok(log) => self.text(&path, &log),
                        Err(error) => self.gap(&path, error),
                    }
                }
            }
        }
    }

    fn object(&mut self, namespace: &str, plural: &str, name: &str, object: &impl Serialize) {
        let path = format!("{namespace}/{plural}/{name}.yaml");
        let Ok(mut value) = serde_json::to_value(object) else { return };
        redact::strip(&mut value);
        match serde_norway::to_string(&value) {
            Ok(text) => self.text(&path, &text),
            Err(error) => self.gaps.push(format!("{path}: {error}")),
        }
    }

    fn text(&mut self, path: &str, text: &str) {
        if let Err(error) = self.archive.add(path, &self.redactor.redact(text)) {
            self.gaps.push(format!("{path}: {error}"));
        }
    }

    fn gap(&mut self, what: &str, error: kube::Error) {
        self.gaps.push(format!("{:#}", said(error, what)));
    }
}

/// The Secrets that a cache names, and those it was given.
fn secrets_of(cache: &BinaryCache) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(spec) = serde_json::to_value(&cache.spec) {
        refer(&spec, "", &mut names);
    }
    let (name, spec) = (cache.name_any(), &cache.spec);
    let own = Names(&name);
    names.push(own.key_set());
    names.extend(spec.storage.embedded.is_some().then(|| own.s3()));
    names.extend(spec.database.embedded.is_some().then(|| own.postgres()));
    names.extend(spec.database.cloud_native_pg.as_ref().map(CloudNativePg::secret));
    names.extend(tls_secret(&name, spec));
    let status = cache.status.as_ref().map(|status| status.signing_keys.as_slice()).unwrap_or_default();
    names.extend(status.iter().map(|key| key.secret_name.clone()));
    names.sort();
    names.dedup();
    names
}

/// Names below fields such as `secretRef`, `urlSecretRef` and `secretKeyRef`.
fn refer(value: &Value, field: &str, names: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let refers = field.to_lowercase().contains("secret");
            names.extend(map.get("name").filter(|_| refers).and_then(Value::as_str).map(str::to_owned));
            map.iter().for_each(|(field, value)| refer(value, field, names));
        }
        Value::Array(list) => list.iter().for_each(|value| refer(value, field, names)),
        Value::String(text) if field.to_lowercase().ends_with("secretname") => names.push(text.clone()),
        _ => {}
    }
}
