//! Kinds of other projects, as far as the operator speaks them. Clusters may lack them.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a kind is called.
pub trait Kind {
    /// Such as `example.org/v1`.
    const API_VERSION: &'static str;
    /// Such as `example.org`.
    const GROUP: &'static str;
    /// Such as `Example`.
    const KIND: &'static str;
    /// Such as `v1`.
    const VERSION: &'static str;
    /// Such as `examples`.
    const PLURAL: &'static str;
}

/// An object of such a kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", bound = "")]
pub struct Foreign<K> {
    api_version: String,
    kind: String,
    /// Its name.
    pub metadata: ObjectMeta,
    /// What it should be.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub spec: Value,
    /// What became of it.
    #[serde(default, skip_serializing)]
    pub status: Value,
    #[serde(skip)]
    of: PhantomData<K>,
}

impl<K: Kind> Foreign<K> {
    /// An object.
    pub fn new(metadata: ObjectMeta, spec: Value) -> Self {
        let (api_version, kind) = (K::API_VERSION.to_owned(), K::KIND.to_owned());
        Self { api_version, kind, metadata, spec, status: Value::Null, of: PhantomData }
    }
}

impl<K: Kind> Resource for Foreign<K> {
    const API_VERSION: &'static str = K::API_VERSION;
    const GROUP: &'static str = K::GROUP;
    const KIND: &'static str = K::KIND;
    const VERSION: &'static str = K::VERSION;
    const URL_PATH_SEGMENT: &'static str = K::PLURAL;
    type Scope = NamespaceResourceScope;
}

impl<K: Kind> Metadata for Foreign<K> {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// `HTTPRoute` of the Gateway API.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRouteKind;

impl Kind for HttpRouteKind {
    const API_VERSION: &'static str = "gateway.networking.k8s.io/v1";
    const GROUP: &'static str = "gateway.networking.k8s.io";
    const KIND: &'static str = "HTTPRoute";
    const VERSION: &'static str = "v1";
    const PLURAL: &'static str = "httproutes";
}

/// A route from Gateways to a Service.
pub type HttpRoute = Foreign<HttpRouteKind>;

/// `BackendTLSPolicy` of the Gateway API, since 1.4.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendTlsPolicyKind;

impl Kind for BackendTlsPolicyKind {
    const API_VERSION: &'static str = "gateway.networking.k8s.io/v1";
    const GROUP: &'static str = "gateway.networking.k8s.io";
    const KIND: &'static str = "BackendTLSPolicy";
    const VERSION: &'static str = "v1";
    const PLURAL: &'static str = "backendtlspolicies";
}

/// How Gateways speak TLS to a Service.
pub type BackendTlsPolicy = Foreign<BackendTlsPolicyKind>;

/// `Certificate` of cert-manager.
#[derive(Debug, Clone, PartialEq)]
pub struct CertificateKind;

impl Kind for CertificateKind {
    const API_VERSION: &'static str = "cert-manager.io/v1";
    const GROUP: &'static str = "cert-manager.io";
    const KIND: &'static str = "Certificate";
    const VERSION: &'static str = "v1";
    const PLURAL: &'static str = "certificates";
}

/// A certificate that is made and renewed in a Secret.
pub type Certificate = Foreign<CertificateKind>;

/// `ServiceMonitor` of the prometheus-operator.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceMonitorKind;

impl Kind for ServiceMonitorKind {
    const API_VERSION: &'static str = "monitoring.coreos.com/v1";
    const GROUP: &'static str = "monitoring.coreos.com";
    const KIND: &'static str = "ServiceMonitor";
    const VERSION: &'static str = "v1";
    const PLURAL: &'static str = "servicemonitors";
}

/// How Prometheus reads the metrics behind a Service.
pub type ServiceMonitor = Foreign<ServiceMonitorKind>;

/// Whether the cluster was found to lack a kind a moment ago, so that caches that want none need not look for old
/// ones.
#[derive(Debug, Default)]
pub struct Absence(Mutex<Option<Instant>>);

impl Absence {
    const LASTS: Duration = Duration::from_mins(5);

    /// It is missing, or it is there.
    pub fn note(&self, missing: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = missing.then(Instant::now);
    }

    /// Whether it was missing a moment ago.
    pub fn is_known(&self) -> bool {
        let noted = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.is_some_and(|at| at.elapsed() < Self::LASTS)
    }
}
