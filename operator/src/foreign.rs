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

/// Says what a kind is called, and what its objects are called here.
macro_rules! kind {
    ($(#[$doc:meta])* $object:ident, $marker:ident, $group:literal, $version:literal, $kind:literal, $plural:literal) => {
        #[doc = concat!("`", $kind, "` of `", $group, "`.")]
        #[derive(Debug, Clone, PartialEq)]
        pub struct $marker;

        impl Kind for $marker {
            const API_VERSION: &'static str = concat!($group, "/", $version);
            const GROUP: &'static str = $group;
            const KIND: &'static str = $kind;
            const VERSION: &'static str = $version;
            const PLURAL: &'static str = $plural;
        }

        $(#[$doc])*
        pub type $object = Foreign<$marker>;
    };
}

kind! {
    /// A route from Gateways to a Service.
    HttpRoute, HttpRouteKind, "gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"
}

kind! {
    /// How Gateways speak TLS to a Service, since 1.4 of the Gateway API.
    BackendTlsPolicy, BackendTlsPolicyKind, "gateway.networking.k8s.io", "v1", "BackendTLSPolicy", "backendtlspolicies"
}

kind! {
    /// A certificate that cert-manager makes and renews in a Secret.
    Certificate, CertificateKind, "cert-manager.io", "v1", "Certificate", "certificates"
}

kind! {
    /// How Prometheus reads the metrics behind a Service, by the prometheus-operator.
    ServiceMonitor, ServiceMonitorKind, "monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors"
}

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
