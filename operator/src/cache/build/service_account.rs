//! Who the pods of a cache are. It has no permissions in the cluster; a cloud may know it.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::cache::validate::ValidCache;
use crate::labels::{Component, Names, child, labels};

/// None where the user brings one.
pub(super) fn server(cache: &ValidCache) -> Option<ServiceAccount> {
    let identity = cache.identity();
    if identity.is_some_and(|identity| identity.service_account_name.is_some()) {
        return None;
    }
    let labels = labels(&cache.name, Component::Server);
    let mut metadata = child(Names(&cache.name).server(), &cache.namespace, labels, Some(&cache.owner));
    metadata.annotations = identity
        .map(|identity| identity.service_account_annotations.clone())
        .filter(|annotations| !annotations.is_empty());
    Some(ServiceAccount {
        metadata,
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    })
}

/// The ServiceAccount of the pods, by its name.
pub(super) fn name(cache: &ValidCache) -> String {
    let own = cache.identity().and_then(|identity| identity.service_account_name.clone());
    own.unwrap_or_else(|| Names(&cache.name).server())
}
