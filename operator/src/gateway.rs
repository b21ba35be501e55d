//! `HTTPRoute` of the Gateway API, as far as the operator speaks it. Clusters may lack it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A route from Gateways to a Service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRoute {
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
}

impl HttpRoute {
    /// A route.
    pub fn new(metadata: ObjectMeta, spec: Value) -> Self {
        let (api_version, kind) = (Self::API_VERSION.to_owned(), Self::KIND.to_owned());
        Self { api_version, kind, metadata, spec, status: Value::Null }
    }
}

impl Resource for HttpRoute {
    const API_VERSION: &'static str = "gateway.networking.k8s.io/v1";
    const GROUP: &'static str = "gateway.networking.k8s.io";
    const KIND: &'static str = "HTTPRoute";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "httproutes";
    type Scope = NamespaceResourceScope;
}

impl Metadata for HttpRoute {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Whether the cluster was found to lack the Gateway API a moment ago, so that caches without a route need not
/// look for old ones.
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
