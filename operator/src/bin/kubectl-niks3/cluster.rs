//! The API server, as `kubectl` would reach it, and the objects that a command is about.

use std::fmt::Debug;

use anyhow::{Context as _, bail};
use k8s_openapi::NamespaceResourceScope;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt as _};
use niks3_operator::crd::{BinaryCache, GCPolicy};
use serde::de::DeserializeOwned;

use crate::args::ClusterArgs;

/// A cluster and a namespace of it.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Cluster {
    pub(crate) async fn connect(args: &ClusterArgs) -> anyhow::Result<Self> {
        let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
        let config = if let Some(file) = &args.kubeconfig {
            let read = Kubeconfig::read_from(file).with_context(|| format!("{}", file.display()))?;
            Config::from_custom_kubeconfig(read, &options).await?
        } else if args.context.is_some() {
            Config::from_kubeconfig(&options).await?
        } else {
            Config::infer()
                .await
                .context("no kubeconfig leads to a cluster; set KUBECONFIG or --kubeconfig")?
        };
        let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self { client: Client::try_from(config)?, namespace })
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// All of a kind in the namespace.
    pub(crate) async fn all<K>(&self) -> anyhow::Result<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let list = self.api::<K>().list(&ListParams::default()).await;
        Ok(list.map_err(|error| said(error, &format!("{}s cannot be listed", K::kind(&()))))?.items)
    }

    /// The cache of this name, or the only one of the namespace.
    pub(crate) async fn cache(&self, name: Option<&str>) -> anyhow::Result<BinaryCache> {
        self.one(name).await
    }

    /// The policy of this name, or the only one of the namespace.
    pub(crate) async fn policy(&self, name: Option<&str>) -> anyhow::Result<GCPolicy> {
        self.one(name).await
    }

    async fn one<K>(&self, name: Option<&str>) -> anyhow::Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let (kind, namespace) = (K::kind(&()), &self.namespace);
        if let Some(name) = name {
            let found = self.api::<K>().get_opt(name).await;
            let found = found.map_err(|error| said(error, &format!("{kind} {name} cannot be read")))?;
            let Some(found) = found else {
                bail!("namespace {namespace} has no {kind} {name}; `kubectl get nix -A` lists what there is");
            };
            return Ok(found);
        }
        let mut all = self.all::<K>().await?;
        match all.len() {
            1 => Ok(all.remove(0)),
            0 => {
                bail!("namespace {namespace} has no {kind}; -n names another, `kubectl get nix -A` lists all")
            }
            _ => {
                let names: Vec<String> = all.iter().map(kube::ResourceExt::name_any).collect();
                bail!("namespace {namespace} has several {kind}s, name one: {}", names.join(", "))
            }
        }
    }
}

/// An error in the API server's own words.
pub(crate) fn said(error: kube::Error, what: &str) -> anyhow::Error {
    match error {
        // Of a kind that the cluster does not know, it says only this.
        kube::Error::Api(status)
            if status.code == 404 && status.message.starts_with("404 page not found") =>
        {
            anyhow::anyhow!("{what}: the cluster does not know the kind; is the operator's chart installed?")
        }
        kube::Error::Api(status) => anyhow::anyhow!("{what}: {}", status.message),
        other => anyhow::Error::new(other).context(what.to_owned()),
    }
}

/// `namespace/name`
pub(crate) fn full_name<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}
