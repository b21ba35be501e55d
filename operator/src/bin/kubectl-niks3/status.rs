//! `kubectl niks3 status`: reads what the screen shows.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::ListParams;
use niks3_operator::crd::{BinaryCache, GCPolicy};
use niks3_operator::labels::{Component, pods_of};

use crate::cluster::{Cluster, said};
use crate::screen::{self, Screen};

pub(crate) async fn run(cluster: &Cluster, name: Option<&str>) -> anyhow::Result<String> {
    let now = Timestamp::now();
    if name.is_none() {
        let all: Vec<BinaryCache> = cluster.all().await?;
        if all.len() > 1 {
            return Ok(screen::several(&all, now));
        }
    }
    of(cluster, cluster.cache(name).await?, now).await
}

/// The screen of one cache.
pub(crate) async fn of(cluster: &Cluster, cache: BinaryCache, now: Timestamp) -> anyhow::Result<String> {
    let name = cache.name_any();
    let mut policies: Vec<GCPolicy> = cluster.all().await?;
    policies.retain(|policy| {
        let named = policy.spec.cache_ref.as_ref().is_some_and(|cache| cache.name == name);
        let mut caches = policy.status.iter().flat_map(|status| &status.caches);
        named || caches.any(|cache| cache.name == name)
    });
    let parts = [Component::Server, Component::S3, Component::Postgres];
    let list = ListParams::default().labels(&pods_of(&name, &parts));
    let pods =
        cluster.api::<Pod>().list(&list).await.map_err(|error| said(error, "pods cannot be listed"))?;
    Ok(screen::one(&Screen { cache: &cache, policies: &policies, pods: &pods.items, now }))
}
