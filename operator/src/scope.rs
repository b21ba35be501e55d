//! Where the operator looks: in the whole cluster, or in some namespaces and nowhere else.

use std::collections::BTreeSet;

use kube::{Api, Client, Resource};

/// Where the operator looks.
#[derive(Debug, Clone, Default)]
pub struct Scope(BTreeSet<String>);

impl Scope {
    /// These namespaces; none are all.
    pub fn new(namespaces: impl IntoIterator<Item = String>) -> Self {
        Self(namespaces.into_iter().collect())
    }

    /// Whether there is nothing it does not look at.
    pub fn is_whole_cluster(&self) -> bool {
        self.0.is_empty()
    }

    /// The part that a namespace is in.
    pub fn part_of<'a>(&self, namespace: &'a str) -> Option<&'a str> {
        (!self.is_whole_cluster()).then_some(namespace)
    }

    /// One controller of a kind each: the whole cluster is `None`.
    pub fn parts(&self) -> Vec<Option<String>> {
        if self.0.is_empty() { vec![None] } else { self.0.iter().cloned().map(Some).collect() }
    }
}

/// The objects of a kind in a part of the scope.
pub fn api<K>(client: &Client, part: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match part {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_named_twice_has_one_controller() {
        let scope = Scope::new(["b", "a", "b"].map(str::to_owned));
        assert_eq!(scope.parts(), [Some("a".to_owned()), Some("b".to_owned())]);
        assert_eq!(Scope::default().parts(), [None]);
    }
}
