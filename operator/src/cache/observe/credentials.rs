//! Reads what stands beside the first Secret of an embedded server's credentials, where they were asked to change.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt as _};

use crate::cache::validate::credentials::{others, progress, request};
use crate::context::Context;
use crate::crd::BinaryCache;
use crate::labels::Names;

use super::ObserveError;

/// Adds the Secrets, and gives back the servers that are to take both credentials.
pub(super) async fn read(
    cache: &BinaryCache,
    secrets: &mut BTreeMap<String, Secret>,
    now: Timestamp,
    context: &Context,
) -> Result<BTreeMap<String, StatefulSet>, ObserveError> {
    let (name, namespace) = (cache.name_any(), cache.namespace().unwrap_or_default());
    let (request, names) = (request(cache, now), Names(&name));
    let storage = cache.spec.storage.embedded.as_ref().map(|_| names.s3());
    let database = cache.spec.database.embedded.as_ref().map(|_| names.postgres());
    let mut stateful_sets = BTreeMap::new();
    for base in storage.into_iter().chain(database) {
        let Some(first) = secrets.get(&base).cloned() else { continue };
        let api: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
        for other in others(&request, &first).into_iter().filter(|other| *other != base) {
            let read = |source| ObserveError::Read { what: format!("Secret {other}"), source };
            if let Some(found) = api.get_opt(&other).await.map_err(read)? {
                secrets.insert(other, found);
            }
        }
        let next = progress(&first).ok().flatten().and_then(|progress| progress.next);
        if next.is_some_and(|next| next.used_since.is_none()) {
            let api: Api<StatefulSet> = Api::namespaced(context.client.clone(), &namespace);
            let read = |source| ObserveError::Read { what: format!("StatefulSet {base}"), source };
            if let Some(found) = api.get_opt(&base).await.map_err(read)? {
                stateful_sets.insert(base, found);
            }
        }
    }
    Ok(stateful_sets)
}
