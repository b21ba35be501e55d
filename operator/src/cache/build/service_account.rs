//! Who the pods of a cache are. It has no permissions in the cluster; a cloud may know it.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::cache::validate::ValidCache;
use crate::labels::{Component, Names, child, labels};

/// None where the user brings one and no embedded server needs ours: theirs is the server's alone, for a cloud may let
/// it at the bucket.
pub(super) fn server(cache: &ValidCache) -> Option<ServiceAccount> {
    let identity = cache.identity();
    let own = identity.and_then(|identity| identity.service_account_name.as_ref());
    // One of the name that ours would have is theirs, and good for all.
    if own.is_some_and(|own| cache.embedded().next().is_none() || *own == Names(&cache.name).server()) {
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
