//! Reads the keys that followed one another by themselves, and what clients are told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, ResourceExt as _};

use crate::cache::validate::{any_waits, next_secret, secret_names};
use crate::context::Context;
use crate::crd::BinaryCache;
use crate::labels::Names;

use super::ObserveError;

/// Adds their Secrets.
pub(super) async fn read(
    cache: &BinaryCache,
    secrets: &mut BTreeMap<String, Secret>,
    context: &Context,
) -> Result<(), ObserveError> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &cache.namespace().unwrap_or_default());
    let mut names: VecDeque<String> = secret_names(cache, secrets).into();
    let mut last = None;
    // The next name is one that nobody has: others are passed over as they are found.
    while let Some(name) = names.pop_front().or_else(|| next_secret(cache, secrets)) {
        if last.as_ref() == Some(&name) {
            break;
        }
        let read = |source| ObserveError::Read { what: format!("Secret {name}"), source };
        if let Some(found) = api.get_opt(&name).await.map_err(read)? {
            secrets.insert(name.clone(), found);
        }
        last = Some(name);
    }
    Ok(())
}

/// The public keys that clients are told, where it counts since when.
pub(super) async fn told(
    cache: &BinaryCache,
    secrets: &BTreeMap<String, Secret>,
    context: &Context,
) -> Result<Option<BTreeSet<String>>, ObserveError> {
    let (name, namespace) = (cache.name_any(), cache.namespace().unwrap_or_default());
    if !any_waits(&name, secrets.values()) {
        return Ok(None);
    }
    let client = Names(&name).client();
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &namespace);
    let read = |source| ObserveError::Read { what: format!("ConfigMap {client}"), source };
    let found = api.get_opt(&client).await.map_err(read)?;
    let keys = found.and_then(|found| found.data?.remove("public-keys")).unwrap_or_default();
    Ok(Some(keys.split_whitespace().map(str::to_owned).collect()))
}
