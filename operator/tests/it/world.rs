//! A namespace with helpers to fill it and to look at it.

use std::fmt::Debug;

use axum::Router;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use niks3_operator::args::Images;
use niks3_operator::cache::probe::Probe;
use niks3_operator::context::Context;
use niks3_operator::crd::{BinaryCache, GCPolicy};
use niks3_operator::{cache, policy};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::api_server::{self, Server};
use crate::faults::Faults;

pub(crate) struct World {
    /// What the reconcilers get. Their calls go through `faults`, those of the test do not.
    pub(crate) context: Context,
    pub(crate) faults: Faults,
    pub(crate) namespace: String,
    client: Client,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(api_server::shared().await).await
    }

    pub(crate) async fn on(server: &Server) -> Self {
        let client = server.client();
        let namespace = api_server::namespace(&client).await;
        let images = Images {
            server: "niks3:test".to_owned(),
            s3: "versitygw:test".to_owned(),
            postgres: "postgres:test".to_owned(),
            pull_policy: None,
        };
        let faults = Faults::default();
        let watched = server.client_through(&faults);
        Self { context: Context::new(watched, images, Probe::default()), faults, namespace, client }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client(), &self.namespace)
    }

    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Serialize
            + DeserializeOwned
            + Clone
            + Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    pub(crate) async fn patch<K>(&self, name: &str, patch: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        self.api().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap()
    }

    pub(crate) async fn patch_status<K>(&self, name: &str, status: Value)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let patch = Patch::Merge(json!({"status": status}));
        self.api::<K>().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// A running pod of the cache `main`, whose server answers with `routes`.
    pub(crate) async fn server_pod(&self, name: &str, routes: Router) {
        let (listener, address) = own_address().await;
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let running = json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]});
        self.pod(name, "server", running).await;
    }

    /// A pod of the cache `main`.
    pub(crate) async fn pod(&self, name: &str, component: &str, status: Value) {
        let labels = json!({"app.kubernetes.io/name": "niks3", "app.kubernetes.io/instance": "main",
            "app.kubernetes.io/component": component});
        let containers = json!([{"name": component, "image": "niks3:9"}]);
        let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": {"containers": containers}});
        self.create::<Pod>(pod).await;
        self.patch_status::<Pod>(name, status).await;
    }

    /// The names of all objects of a kind in the namespace, in order.
    pub(crate) async fn names<K>(&self) -> Vec<String>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let found = self.api::<K>().list(&ListParams::default()).await.unwrap();
        let mut names: Vec<String> = found.items.iter().map(ResourceExt::name_any).collect();
        names.retain(|name| name != "default" && name != "kube-root-ca.crt");
        names.sort();
        names
    }

    pub(crate) async fn secret(&self, name: &str, data: &[(&str, &str)]) {
        let data: Value = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        self.create::<Secret>(json!({"metadata": {"name": name}, "stringData": data})).await;
    }

    pub(crate) async fn cache(&self, name: &str, spec: Value) -> BinaryCache {
        let meta = json!({"name": name, "namespace": self.namespace});
        self.create(json!({"apiVersion": "niks3.dev/v1alpha1", "kind": "BinaryCache", "metadata": meta, "spec": spec})).await
    }

    pub(crate) async fn policy(&self, name: &str, spec: Value) -> GCPolicy {
        let meta = json!({"name": name, "namespace": self.namespace});
        self.create(
            json!({"apiVersion": "niks3.dev/v1alpha1", "kind": "GCPolicy", "metadata": meta, "spec": spec}),
        )
        .await
    }

    /// One reconciliation of a cache as it is now, and the cache afterwards.
    pub(crate) async fn reconcile_cache(&self, name: &str) -> BinaryCache {
        let api = self.api::<BinaryCache>();
        Box::pin(cache::reconcile(&api.get(name).await.unwrap(), &self.context)).await.unwrap();
        api.get(name).await.unwrap()
    }

    /// One reconciliation of a policy as it is now, and the policy afterwards.
    pub(crate) async fn reconcile_policy(&self, name: &str) -> GCPolicy {
        let api = self.api::<GCPolicy>();
        Box::pin(policy::reconcile(&api.get(name).await.unwrap(), &self.context)).await.unwrap();
        api.get(name).await.unwrap()
    }

    /// What the newest pods of a cache's server start with.
    pub(crate) async fn server_config(&self, cache: &str) -> ConfigMap {
        let pod = self.api::<Deployment>().get(cache).await.unwrap().spec.unwrap().template.spec.unwrap();
        let volume = pod.volumes.unwrap().into_iter().find(|volume| volume.name == "config").unwrap();
        self.api().get(&volume.config_map.unwrap().name).await.unwrap()
    }

    /// Text without what differs from namespace to namespace: its name, and that of the configuration of `main`.
    pub(crate) async fn plain(&self, text: &str) -> String {
        let config = self.server_config("main").await.name_any();
        text.replace(&config, "main-config-HASH").replace(&self.namespace, "NAMESPACE")
    }

    /// As its controller writes it where all pods of a cache's server are new and ready.
    pub(crate) async fn rolled_out(&self, cache: &str) {
        let deployment = self.api::<Deployment>().get(cache).await.unwrap();
        let count = deployment.spec.unwrap().replicas;
        let status = json!({"observedGeneration": deployment.metadata.generation, "replicas": count,
            "updatedReplicas": count, "readyReplicas": count, "availableReplicas": count});
        self.patch_status::<Deployment>(cache, status).await;
    }

    /// The reasons of the events in the namespace.
    pub(crate) async fn event_reasons(&self) -> Vec<String> {
        let events = self.api::<Event>().list(&ListParams::default()).await.unwrap();
        events.items.into_iter().filter_map(|event| event.reason).collect()
    }
}

/// All pods have one port, so each has an address where nobody else listens.
async fn own_address() -> (TcpListener, String) {
    for last in 1..=254 {
        let address = format!("127.0.75.{last}");
        if let Ok(listener) = TcpListener::bind((&*address, 5751)).await {
            return (listener, address);
        }
    }
    panic!("somebody listens at port 5751 of each of 254 addresses");
}

/// `Status/Reason: message` of a condition.
pub(crate) fn condition(status: impl Serialize, about: &str) -> String {
    let status = serde_json::to_value(status).unwrap();
    let conditions = status["conditions"].as_array().unwrap();
    let found = conditions.iter().find(|condition| condition["type"] == about).unwrap();
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    format!("{}/{}: {}", text("status"), text("reason"), text("message"))
}

pub(crate) fn embedded() -> Value {
    json!({"storage": {"embedded": {}}, "database": {"embedded": {}}})
}

pub(crate) fn own(bucket: &str) -> Value {
    json!({
        "storage": {"s3": {"bucket": bucket, "credentials": {"secretRef": {"name": "s3"}}}},
        "database": {"urlSecretRef": {"name": "db"}}
    })
}
