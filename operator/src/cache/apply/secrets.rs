//! Writes the Secrets of a cache: keys and credentials that are made once, what is noted on them, and what the pods sign with.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

use crate::apply::ApplyError;
use crate::cache::build::{credentials_note, key_chain, key_set, key_upkeep};
use crate::cache::validate::ValidCache;
use crate::labels::Names;

/// Writes them in the order in which each counts on those before; the names of those that were made.
pub(super) async fn apply(
    client: &Client,
    wanted: &[Secret],
    cache: &ValidCache,
) -> Result<Vec<String>, ApplyError> {
    for secret in wanted {
        create(client, secret).await?;
    }
    // Before any of them signs: what is not written there was never published.
    keep_key_chain(client, cache).await?;
    keep_keys(client, cache).await?;
    // After the keys and their clocks: no pod signs with one before that is written down.
    keep_key_set(client, cache).await?;
    keep_credentials(client, cache).await?;
    Ok(wanted.iter().map(kube::ResourceExt::name_any).collect())
}

/// `create` alone: where another operator was faster, its Secret is the one that counts, and what was built
/// from ours is thrown away with this error.
async fn create(client: &Client, secret: &Secret) -> Result<(), ApplyError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &secret.namespace().unwrap_or_default());
    let name = secret.name_any();
    api.create(&PostParams::default(), secret)
        .await
        .map(|_| tracing::info!(secret = name, "made a Secret"))
        .map_err(|source| ApplyError::new::<Secret>("create", &name, source))
}

/// The clock of a key, and whether it goes with its cache, can change at any time; the key itself cannot.
async fn keep_keys(client: &Client, cache: &ValidCache) -> Result<(), ApplyError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &cache.namespace);
    for key in &cache.signing.keys {
        let Some(patch) = key_upkeep(cache, key) else { continue };
        let name = &key.secret.secret;
        api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(|source| ApplyError::new::<Secret>("patch", name, source))?;
    }
    Ok(())
}

/// Which keys followed by themselves.
async fn keep_key_chain(client: &Client, cache: &ValidCache) -> Result<(), ApplyError> {
    let known = cache.signing.chain.found.is_some();
    write(client, cache, Names(&cache.name).key_chain(), key_chain(cache), known).await
}

/// What the pods sign with.
async fn keep_key_set(client: &Client, cache: &ValidCache) -> Result<(), ApplyError> {
    let known = cache.signing.set.found.is_some();
    write(client, cache, Names(&cache.name).key_set(), key_set(cache), known).await
}

/// Patches a Secret that is known, or creates it: where another operator was faster, what was read is read anew.
async fn write(
    client: &Client,
    cache: &ValidCache,
    name: String,
    wanted: Option<Value>,
    known: bool,
) -> Result<(), ApplyError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let api: Api<Secret> = Api::namespaced(client.clone(), &cache.namespace);
    let failed = |act, source| ApplyError::new::<Secret>(act, &name, source);
    if known {
        let how = PatchParams::default();
        let patched = Box::pin(api.patch(&name, &how, &Patch::Merge(wanted))).await;
        return patched.map(drop).map_err(|source| failed("patch", source));
    }
    let secret =
        serde_json::from_value(wanted).map_err(|error| failed("create", kube::Error::SerdeError(error)))?;
    api.create(&PostParams::default(), &secret).await.map(drop).map_err(|source| failed("create", source))
}

/// How far credentials are is written down before anything is done about it.
async fn keep_credentials(client: &Client, cache: &ValidCache) -> Result<(), ApplyError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &cache.namespace);
    for (name, patch) in cache.embedded().filter_map(|(_, server)| credentials_note(server)) {
        api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(|source| ApplyError::new::<Secret>("patch", name, source))?;
    }
    Ok(())
}
