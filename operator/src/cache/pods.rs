//! The pods of a cache, and what keeps them from running, in the words that `kubectl describe pod` has for it.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use crate::context::Context;
use crate::crd::conditions::{Reason, truncated};
use crate::labels::{self, Component, Names};

use super::validate::{Database, Storage, ValidCache};

/// A log line may be long.
const MAX_WORDS: usize = 300;

/// What keeps a pod from running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// For the condition.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}

/// The pods of a cache.
#[derive(Debug, Default)]
pub struct Pods {
    all: Vec<Pod>,
    /// StorageClasses that pods wait for and that do not exist.
    missing_classes: Vec<(Component, String)>,
    /// What takes a correction to embedded servers whose StatefulSet keeps it away from a pod that is not ready.
    stuck: Vec<(Component, String)>,
}

impl Pods {
    /// Reads those of the server and of the embedded servers.
    pub async fn list(cache: &ValidCache, context: &Context) -> kube::Result<Self> {
        let api: Api<Pod> = Api::namespaced(context.client.clone(), &cache.namespace);
        let parts = [Component::Server, Component::S3, Component::Postgres];
        let list = ListParams::default().labels(&labels::pods_of(&cache.name, &parts)).match_any();
        let mut pods = Self::new(api.list(&list).await?.items);
        let storage = if let Storage::Embedded(server) = &cache.storage { Some(server) } else { None };
        let database = if let Database::Embedded(server) = &cache.database { Some(server) } else { None };
        let names = Names(&cache.name);
        for (component, name) in [(Component::S3, names.s3()), (Component::Postgres, names.postgres())] {
            let Some(pod) = pods.of(component).find(|pod| trouble(pod).is_some()) else { continue };
            let api: Api<StatefulSet> = Api::namespaced(context.client.clone(), &cache.namespace);
            if api.get_opt(&name).await?.is_some_and(|set| keeps_away(&set, pod)) {
                let remedy = format!("kubectl delete pod -n {} {}", cache.namespace, pod.name_any());
                pods.stuck.push((component, remedy));
            }
        }
        for (component, server) in [(Component::S3, storage), (Component::Postgres, database)] {
            let Some(class) = server.and_then(|server| server.storage_class_name.clone()) else { continue };
            // Asked for only where it explains something: a volume that is there needs no class any more.
            let waits =
                pods.trouble(component).is_some_and(|trouble| trouble.reason == Reason::Unschedulable);
            let classes: Api<StorageClass> = Api::all(context.client.clone());
            if !waits {
                continue;
            }
            match classes.get_metadata_opt(&class).await {
                Ok(None) => pods.missing_classes.push((component, class)),
                Ok(Some(_)) => {}
                // An operator of some namespaces may not be allowed to look.
                Err(kube::Error::Api(answer)) if answer.is_forbidden() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pods)
    }

    /// The newest first: they run what the spec says now.
    pub fn new(mut pods: Vec<Pod>) -> Self {
        pods.sort_by_key(|pod| {
            (std::cmp::Reverse(pod.creation_timestamp().map(|time| time.0)), pod.name_any())
        });
        Self { all: pods, ..Self::default() }
    }

    /// Those of a part that are not on their way out.
    pub fn of(&self, component: Component) -> impl Iterator<Item = &Pod> {
        self.all.iter().filter(move |pod| {
            pod.metadata.deletion_timestamp.is_none() && labels::is_of(pod.labels(), component)
        })
    }

    /// What keeps the pods of a part from running; nothing where they run, or are about to.
    pub fn trouble(&self, component: Component) -> Option<Trouble> {
        let missing = self.missing_classes.iter().find(|(about, _)| *about == component);
        let of_class = missing.map(|(_, class)| Trouble {
            reason: Reason::StorageClassNotFound,
            message: format!(
                "StorageClass {class} does not exist; make it, or make the cache anew with another"
            ),
        });
        let trouble = of_class.or_else(|| self.of(component).find_map(trouble))?;
        let Some((_, remedy)) = self.stuck.iter().find(|(about, _)| *about == component) else {
            return Some(trouble);
        };
        let message = format!(
            "{}; its StatefulSet, made by an older operator, brings it no correction while it is not ready: {remedy}",
            trouble.message
        );
        Some(Trouble { message, ..trouble })
    }
}

/// Whether a StatefulSet leaves a pod that is not ready as it is, though it should be another by now
/// (kubernetes/kubernetes#67250). Those made with `Parallel` do not, and none can be changed into one.
fn keeps_away(set: &StatefulSet, pod: &Pod) -> bool {
    let in_order =
        set.spec.as_ref().is_some_and(|spec| spec.pod_management_policy.as_deref() != Some("Parallel"));
    let newest = set.status.as_ref().and_then(|status| status.update_revision.as_ref());
    let has = pod.labels().get("controller-revision-hash");
    in_order && has.is_some() && newest.is_some() && has != newest
}

fn trouble(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let mut containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let said = containers.find_map(of_container).or_else(|| {
        let unscheduled = status.conditions.iter().flatten().find(|condition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                && condition.reason.as_deref() == Some("Unschedulable")
        })?;
        Some((Reason::Unschedulable, unscheduled.message.clone().unwrap_or_default()))
    });
    let (reason, message) = said?;
    Some(Trouble { reason, message: format!("pod {}: {message}", pod.name_any()) })
}

fn of_container(container: &ContainerStatus) -> Option<(Reason, String)> {
    let state = container.state.as_ref()?;
    let crashed = || {
        let last = state.terminated.as_ref().or(container.last_state.as_ref()?.terminated.as_ref())?;
        Some(format!(
            "{} ended with exit code {}: {}",
            container.name,
            last.exit_code,
            last_words(last.message.as_deref())
        ))
    };
    let message = |waiting: Option<&str>| waiting.unwrap_or_default().to_owned();
    if let Some(waiting) = &state.waiting {
        return match waiting.reason.as_deref()? {
            // The kubelet says the one and the other by turns.
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
                let why = message(waiting.message.as_deref());
                let why = why.split_once(": ErrImagePull: ").map_or(why.as_str(), |(_, why)| why);
                Some((Reason::ImagePullBackOff, format!("image {} cannot be pulled: {why}", container.image)))
            }
            "CrashLoopBackOff" => Some((
                Reason::CrashLoopBackOff,
                crashed().unwrap_or_else(|| message(waiting.message.as_deref())),
            )),
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                Some((Reason::CreateContainerConfigError, message(waiting.message.as_deref())))
            }
            _ => None,
        };
    }
    // Between a crash and the next try.
    let ended = state.terminated.as_ref().filter(|ended| ended.exit_code != 0 && container.restart_count > 0);
    ended.and_then(|_| Some((Reason::CrashLoopBackOff, crashed()?)))
}

/// The last line of a log; of ours, which is JSON, only what it says: its time would be another one each time.
fn last_words(log: Option<&str>) -> String {
    let line = log.unwrap_or_default().lines().rev().find(|line| !line.trim().is_empty());
    let line = line.unwrap_or("it said nothing").trim();
    let said =
        serde_json::from_str::<Value>(line).ok().and_then(|json| Some(json["message"].as_str()?.to_owned()));
    truncated(&said.unwrap_or_else(|| line.to_owned()), MAX_WORDS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, created: &str, status: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "creationTimestamp": created,
                "labels": labels::labels("main", Component::Server)},
            "status": status
        }))
        .unwrap()
    }

    fn container(state: &Value, last: &Value) -> Value {
        json!({"containerStatuses": [{"name": "server", "image": "niks3:9", "imageID": "", "ready": false,
            "restartCount": 1, "state": state, "lastState": last}]})
    }

    fn said(status: &Value) -> Option<(&'static str, String)> {
        let pods = Pods::new(vec![pod("a", "2026-01-01T00:00:00Z", status)]);
        pods.trouble(Component::Server).map(|trouble| (trouble.reason.as_str(), trouble.message))
    }

    #[test]
    fn what_keeps_a_pod_from_running_is_said() {
        let waiting =
            |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
        let pull = "pod a: image niks3:9 cannot be pulled: not found".to_owned();
        let expected = Some(("ImagePullBackOff", pull));
        assert_eq!(said(&container(&waiting("ErrImagePull", "not found"), &json!({}))), expected);
        let newer = r#"Back-off pulling image "niks3:9": ErrImagePull: not found"#;
        assert_eq!(said(&container(&waiting("ImagePullBackOff", newer), &json!({}))), expected);
        let log = "{\"message\":\"starting\"}\n{\"timestamp\":\"1\",\"message\":\"no bucket\"}\n\n";
        let crash = json!({"terminated": {"exitCode": 1, "message": log}});
        let expected =
            Some(("CrashLoopBackOff", "pod a: server ended with exit code 1: no bucket".to_owned()));
        assert_eq!(said(&container(&waiting("CrashLoopBackOff", "back-off 5m0s"), &crash)), expected);
        assert_eq!(said(&container(&crash, &json!({}))), expected);
        let config = said(&container(&waiting("CreateContainerConfigError", "no key a"), &json!({})));
        assert_eq!(config, Some(("CreateContainerConfigError", "pod a: no key a".to_owned())));
        assert_eq!(said(&container(&waiting("ContainerCreating", ""), &json!({}))), None);
        let nowhere = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available"}]});
        assert_eq!(said(&nowhere), Some(("Unschedulable", "pod a: 0/1 nodes are available".to_owned())));
    }

    #[test]
    fn the_newest_pod_speaks_first() {
        let status = container(&json!({"waiting": {"reason": "ErrImagePull", "message": "x"}}), &json!({}));
        let pods = [("old", "2026-01-01T00:00:00Z"), ("new", "2026-01-02T00:00:00Z")];
        let pods = Pods::new(pods.map(|(name, created)| pod(name, created, &status)).to_vec());
        assert!(pods.trouble(Component::Server).unwrap().message.starts_with("pod new: "));
        assert_eq!(pods.trouble(Component::Postgres), None);
    }
}
