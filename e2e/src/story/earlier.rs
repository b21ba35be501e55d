//! What an earlier telling left is removed, and nothing else: the cluster may be one that people work with.

use anyhow::ensure;
use serde_json::Value;

use super::NAMESPACE;
use super::network::ELSEWHERE;
use super::set_up::{MARK, OPERATOR_NAMESPACE};
use crate::cluster::Cluster;
use crate::jobs;

/// The operator's comes last: as long as its mark is there, the definitions are known as the story's.
const NAMESPACES: [&str; 4] = [NAMESPACE, jobs::NAMESPACE, ELSEWHERE, OPERATOR_NAMESPACE];

/// What is in the cluster of what the story makes.
#[derive(Debug, Default)]
struct Found {
    namespaces: Vec<Value>,
    /// The names of niks3's definitions.
    definitions: Vec<String>,
    /// Caches and policies of all namespaces.
    objects: Vec<Value>,
}

pub(super) fn remove(cluster: &Cluster<'_>) -> anyhow::Result<()> {
    let found = Found::look(cluster)?;
    found.is_ours()?;
    let delete = |what: &str| cluster.run(&format!("kubectl delete {what} --wait --timeout=3m"), None);
    let (operators, others): (Vec<_>, Vec<_>) =
        found.namespaces.iter().map(name).partition(|name| *name == OPERATOR_NAMESPACE);
    // Caches first, while somebody is there to see it.
    for namespace in others {
        delete(&format!("namespace {namespace}"))?;
    }
    let roles = "clusterrole,clusterrolebinding -l app.kubernetes.io/name=niks3-operator,app.kubernetes.io/instance=niks3";
    if !operators.is_empty() {
        delete(&format!("{roles} --ignore-not-found"))?;
    }
    for definition in &found.definitions {
        delete(definition)?;
    }
    for namespace in operators {
        delete(&format!("namespace {namespace}"))?;
    }
    Ok(())
}

impl Found {
    fn look(cluster: &Cluster<'_>) -> anyhow::Result<Self> {
        let mut found = Self::default();
        for namespace in NAMESPACES {
            found.namespaces.extend(cluster.find(&format!("namespace {namespace}"))?);
        }
        found.definitions = cluster.names("crd")?;
        found.definitions.retain(|name| name.ends_with(".niks3.dev"));
        for definition in &found.definitions {
            let kind = definition.rsplit('/').next().unwrap_or_default();
            let list = cluster.get(&format!("{kind} --all-namespaces"))?;
            found.objects.extend(list["items"].as_array().into_iter().flatten().cloned());
        }
        Ok(found)
    }

    /// Fails where something of it is not an earlier telling's.
    fn is_ours(&self) -> anyhow::Result<()> {
        for namespace in &self.namespaces {
            ensure!(
                namespace["metadata"]["labels"][MARK] == "true",
                "namespace {} is there and not of an earlier demo; use another cluster, or delete it",
                name(namespace)
            );
        }
        ensure!(
            self.definitions.is_empty()
                || self.namespaces.iter().any(|namespace| name(namespace) == OPERATOR_NAMESPACE),
            "the cluster has the kinds of niks3 ({}) and no namespace {OPERATOR_NAMESPACE} of an earlier demo, so another \
             operator installed them, and all caches would go with them; use another cluster (`make down` ends the demo's own)",
            self.definitions.join(", ")
        );
        for object in &self.objects {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
            ensure!(
                NAMESPACES.contains(&namespace),
                "{} {} in namespace {namespace} is none of the demo's and would go with it; use another cluster, or delete it",
                object["kind"].as_str().unwrap_or_default(),
                name(object)
            );
        }
        Ok(())
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn namespace(name: &str, mark: &str) -> Value {
        json!({"metadata": {"name": name, "labels": {MARK: mark}}})
    }

    fn refusal(found: &Found) -> String {
        found.is_ours().map_or_else(|error| error.to_string(), |()| String::new())
    }

    fn definitions() -> Vec<String> {
        vec!["customresourcedefinition.apiextensions.k8s.io/binarycaches.niks3.dev".to_owned()]
    }

    #[test]
    fn an_earlier_telling_is_the_storys() {
        let namespaces = vec![namespace(NAMESPACE, "true"), namespace(OPERATOR_NAMESPACE, "true")];
        let cache = json!({"kind": "BinaryCache", "metadata": {"name": "main", "namespace": NAMESPACE}});
        let found = Found { namespaces, definitions: definitions(), objects: vec![cache] };
        assert_eq!(refusal(&found), "");
        assert_eq!(refusal(&Found::default()), "");
    }

    #[test]
    fn what_others_installed_is_refused() {
        let unmarked = Found { namespaces: vec![namespace(NAMESPACE, "")], ..Found::default() };
        assert!(refusal(&unmarked).contains("namespace nix is there"), "{}", refusal(&unmarked));
        // An operator in a namespace of another name.
        let elsewhere = Found { definitions: definitions(), ..Found::default() };
        assert!(refusal(&elsewhere).contains("another operator"), "{}", refusal(&elsewhere));
        let cache = json!({"kind": "BinaryCache", "metadata": {"name": "team", "namespace": "team-a"}});
        let beside = Found {
            namespaces: vec![namespace(OPERATOR_NAMESPACE, "true")],
            definitions: definitions(),
            objects: vec![cache],
        };
        assert!(refusal(&beside).contains("BinaryCache team in namespace team-a"), "{}", refusal(&beside));
    }
}
