//! `niks3-operator self-test`, which `helm test` runs: the API server takes a BinaryCache. Nothing is made.

use anyhow::Context as _;
use kube::api::{Api, PostParams};
use kube::{Client, Config};
use serde_json::json;

use crate::args::SelfTestArgs;
use crate::crd::BinaryCache;

/// `niks3-operator self-test`
pub fn main(args: &SelfTestArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = Config::infer().await.context("nothing leads to a cluster")?;
        run(Client::try_from(config)?, &args.namespace).await
    })
}

/// Asks for a cache in a dry run.
pub async fn run(client: Client, namespace: &str) -> anyhow::Result<()> {
    let cache: BinaryCache = serde_json::from_value(json!({
        "apiVersion": "niks3.dev/v1alpha1",
        "kind": "BinaryCache",
        "metadata": {"generateName": "self-test-"},
        "spec": {"storage": {"embedded": {}}, "database": {"embedded": {}}},
    }))?;
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let api: Api<BinaryCache> = Api::namespaced(client, namespace);
    api.create(&dry_run, &cache).await.context("the API server does not take a BinaryCache")?;
    tracing::info!(namespace, "the API server takes a BinaryCache");
    Ok(())
}
