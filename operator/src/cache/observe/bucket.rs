//! Whether another cache has the bucket.

use kube::api::{DynamicObject, ListParams, ObjectMeta};
use kube::core::ApiResource;
use kube::{Api, Resource as _, ResourceExt as _};

use crate::context::Context;
use crate::crd::BinaryCache;
use crate::scope;

use super::{ObserveError, with_slash};

/// Two caches on one bucket would collect each other's objects: the older one has it. Where the operator does not
/// look, the marker in the bucket keeps a second cache off.
pub(super) async fn find_older(
    cache: &BinaryCache,
    context: &Context,
) -> Result<Option<String>, ObserveError> {
    let Some(s3) = &cache.spec.storage.s3 else { return Ok(None) };
    let same_bucket = ListParams::default().fields(&format!("spec.storage.s3.bucket={}", s3.bucket));
    let read =
        |source| ObserveError::Read { what: "the other BinaryCaches on the bucket".to_owned(), source };
    let mut others = Vec::new();
    for part in context.scope.parts() {
        if let Some(known) = context.stores.caches(part.as_deref()) {
            let readable = known.iter().filter_map(|other| other.0.as_ref().ok());
            let on_bucket = readable.filter(|other| {
                other.uid() != cache.uid()
                    && other.spec.storage.s3.as_ref().is_some_and(|other| other.bucket == s3.bucket)
            });
            others.extend(on_bucket.filter_map(loosely));
            continue;
        }
        let caches: Api<BinaryCache> = scope::api(&context.client, part.as_deref());
        // Nearly always the list is the cache itself; only otherwise the specs are read.
        let found = caches.list_metadata(&same_bucket).await.map_err(read)?;
        if found.items.iter().all(|other| other.uid() == cache.uid()) {
            continue;
        }
        // Loosely typed: one that cannot be read has its bucket all the same.
        let (client, kind) = (context.client.clone(), ApiResource::erase::<BinaryCache>(&()));
        let caches: Api<DynamicObject> = match &part {
            Some(namespace) => Api::namespaced_with(client, namespace, &kind),
            None => Api::all_with(client, &kind),
        };
        others.extend(caches.list(&same_bucket).await.map_err(read)?.items);
    }
    Ok(oldest(cache, &others))
}

fn loosely(cache: &BinaryCache) -> Option<DynamicObject> {
    serde_json::to_value(cache).and_then(serde_json::from_value).ok()
}

/// The oldest of `others` that shares bucket and prefix with `cache` and is older than it.
fn oldest(cache: &BinaryCache, others: &[DynamicObject]) -> Option<String> {
    fn age(meta: &ObjectMeta) -> impl Ord {
        (meta.creation_timestamp.as_ref().map(|time| time.0), meta.namespace.clone(), meta.name.clone())
    }
    let place =
        |endpoint: &str, prefix: &str| (endpoint.trim_end_matches('/').to_owned(), with_slash(prefix));
    let s3 = cache.spec.storage.s3.as_ref()?;
    let (endpoint, prefix) = place(s3.endpoint.as_deref().unwrap_or_default(), &s3.prefix);
    let older =
        others.iter().filter(|other| other.uid() != cache.uid() && age(other.meta()) < age(cache.meta()));
    let sharing = older.filter(|other| {
        let text = |field: &str| other.data["spec"]["storage"]["s3"][field].as_str().unwrap_or_default();
        let (other_endpoint, other_prefix) = place(text("endpoint"), text("prefix"));
        let nested = prefix.starts_with(&other_prefix) || other_prefix.starts_with(&prefix);
        text("bucket") == s3.bucket && other_endpoint == endpoint && nested
    });
    let oldest = sharing.min_by_key(|other| age(other.meta()))?;
    Some(format!("{}/{}", oldest.namespace().unwrap_or_default(), oldest.name_any()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache<T: serde::de::DeserializeOwned>(name: &str, created: &str, prefix: &str) -> T {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": "nix", "uid": name, "creationTimestamp": created},
            "spec": {"database": {"embedded": {}}, "storage": {"s3": {"bucket": "b", "prefix": prefix, "credentials": {}}}}
        }))
        .unwrap()
    }

    #[test]
    fn the_older_cache_has_the_bucket() {
        let old = ("old", "2026-01-01T00:00:00Z", "");
        let young = ("young", "2026-01-02T00:00:00Z", "team");
        let both = [young, old].map(|(name, created, prefix)| cache(name, created, prefix));
        assert_eq!(oldest(&cache(young.0, young.1, young.2), &both), Some("nix/old".to_owned()));
        assert_eq!(oldest(&cache(old.0, old.1, old.2), &both), None);
    }

    #[test]
    fn folders_beside_each_other_do_not_meet() {
        let old = cache("old", "2026-01-01T00:00:00Z", "team-a");
        let young = cache("young", "2026-01-02T00:00:00Z", "team-a2/");
        assert_eq!(oldest(&young, &[old]), None);
    }
}
