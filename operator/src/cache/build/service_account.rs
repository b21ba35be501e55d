//! Who the pods of a cache are. It has no permissions in the cluster.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::cache::validate::ValidCache;
use crate::labels::{Component, Names, child, labels};

pub(super) fn server(cache: &ValidCache) -> ServiceAccount {
    let labels = labels(&cache.name, Component::Server);
    ServiceAccount {
        metadata: child(Names(&cache.name).server(), &cache.namespace, labels, Some(&cache.owner)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
