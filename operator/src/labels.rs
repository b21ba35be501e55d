//! Names, labels and owner references: the one place they are spelled.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt as _};
use sha2::{Digest as _, Sha256};

/// The field manager, the reporter of events and the value of `app.kubernetes.io/managed-by`.
pub const OPERATOR: &str = "niks3-operator";
/// Names the policy that a Job belongs to.
pub const POLICY_LABEL: &str = "niks3.dev/policy";
/// On a Job of a policy: what it does, where that is no collection.
pub const TASK_LABEL: &str = "niks3.dev/task";
/// The task of a Job that compares bucket and database.
pub const FSCK: &str = "fsck";
/// On a pod template: what it was made from, so that a change rolls the pods.
pub const CONFIG_HASH: &str = "niks3.dev/config-hash";
/// On a pod template: the Secrets it reads and which version of them, as `name=version,…`.
pub const SECRET_VERSIONS: &str = "niks3.dev/secret-versions";
/// Kubernetes puts it on the pods of a Job.
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// On the Secret with what the pods sign with: since when it holds that.
pub const KEYS_CHANGED: &str = "niks3.dev/keys-changed";
/// On the Secret of a key that followed another one by itself: the name of that one.
pub const FOLLOWS: &str = "niks3.dev/follows";
/// On a Secret of its own: the keys that followed others by themselves, and whom.
pub const KEY_CHAIN: &str = "niks3.dev/key-chain";
/// On a generated Secret: which generation this is.
pub const GENERATED_ID: &str = "niks3.dev/generated-id";

/// The key of a ConfigMap or Secret with CAs, and the name of the file made from it.
pub const CA_FILE: &str = "ca.crt";
/// The same of revocation lists.
pub const CRL_FILE: &str = "ca.crl";

/// On the first Secret of an embedded server's credentials: which Secret is in force, and which follows it.
pub const CREDENTIALS: &str = "niks3.dev/credentials";

/// On a ConfigMap in another namespace: the namespace of the cache that it is about.
pub const CACHE_NAMESPACE: &str = "niks3.dev/cache-namespace";
/// On a ConfigMap in another namespace: the cache that it is about.
pub const CACHE_NAME: &str = "niks3.dev/cache-name";

const NAME: &str = "app.kubernetes.io/name";
const INSTANCE: &str = "app.kubernetes.io/instance";
const COMPONENT: &str = "app.kubernetes.io/component";
/// Marks what the operator made.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The parts of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The server.
    Server,
    /// What clients mount.
    Client,
    /// The embedded S3 server.
    S3,
    /// The embedded PostgreSQL.
    Postgres,
    /// The collector.
    Gc,
    /// A Job that brings the database's tables up to date.
    Migration,
    /// The signing keys.
    SigningKey,
}

impl Component {
    fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::S3 => "s3",
            Self::Postgres => "postgres",
            Self::Gc => "gc",
            Self::Migration => "migration",
            Self::SigningKey => "signing-key",
        }
    }
}

/// The names of a cache's children.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a>(pub &'a str);

impl Names<'_> {
    /// Deployment, Service, ServiceAccount and PodDisruptionBudget of the server.
    pub fn server(self) -> String {
        self.0.to_owned()
    }

    /// The server's configuration with this text. Another text has another name: one that pods have never changes.
    pub fn config(self, text: &str) -> String {
        format!("{}-config-{}", self.0, hex::encode(&Sha256::digest(text.as_bytes())[..5]))
    }

    /// What clients mount.
    pub fn client(self) -> String {
        format!("{}-client", self.0)
    }

    /// The Secret of the signing key that is generated where the spec names none.
    pub fn signing(self) -> String {
        format!("{}-signing-1", self.0)
    }

    /// The Secret of a generated signing key. The same for the same key, so that it is made once.
    pub fn signing_key(self, key: &str) -> String {
        format!("{}-signing-{}", self.0, hex::encode(&Sha256::digest(key.as_bytes())[..5]))
    }

    /// The Secret with what the pods sign with.
    pub fn key_set(self) -> String {
        format!("{}-signing", self.0)
    }

    /// The Secret that says which keys followed others by themselves. No key's Secret is called so.
    pub fn key_chain(self) -> String {
        format!("{}-signing-chain", self.0)
    }

    /// The annotation with the clocks of a cache's signing keys.
    pub fn signing_clock(self) -> String {
        format!("niks3.dev/signing-clock.{}", self.0)
    }

    /// StatefulSet, Service and Secret of the embedded S3 server.
    pub fn s3(self) -> String {
        format!("{}-s3", self.0)
    }

    /// StatefulSet, Service and Secret of the embedded PostgreSQL.
    pub fn postgres(self) -> String {
        format!("{}-postgres", self.0)
    }

    /// The Secret that cert-manager makes.
    pub fn tls(self) -> String {
        format!("{}-tls", self.0)
    }

    /// CronJob and ServiceAccount of the collector.
    pub fn gc(self) -> String {
        format!("{}-gc", self.0)
    }

    /// CronJob that compares bucket and database.
    pub fn fsck(self) -> String {
        format!("{}-{FSCK}", self.0)
    }
}

/// The Secret of later credentials of an embedded server. The same for the same request, so that it is made once.
pub fn generation(first: &str, request: &str) -> String {
    format!("{first}-{}", hex::encode(&Sha256::digest(request.as_bytes())[..5]))
}

/// The ConfigMap that clients of other namespaces mount. Two caches never share one: neither name has a dot.
pub fn published(cache: &str, namespace: &str) -> String {
    format!("{cache}.{namespace}.niks3")
}

/// The labels of such ConfigMaps.
pub fn published_labels(cache: &str, namespace: &str) -> BTreeMap<String, String> {
    [(CACHE_NAMESPACE, namespace), (CACHE_NAME, cache), (MANAGED_BY, OPERATOR)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The server's address inside the cluster.
pub fn endpoint(cache: &str, namespace: &str, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{cache}.{namespace}.svc")
}

/// The audience that tokens for a cache are made for where its spec names none.
pub fn default_audience(cache: &str, namespace: &str) -> String {
    format!("niks3.dev/{namespace}/{cache}")
}

/// What selects the pods of a component. Never changes: selectors are immutable.
pub fn selector(cache: &str, component: Component) -> BTreeMap<String, String> {
    [(NAME, "niks3"), (INSTANCE, cache), (COMPONENT, component.as_str())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The same as `kubectl -l` takes it.
pub fn selector_text(cache: &str, component: Component) -> String {
    let parts: Vec<String> =
        selector(cache, component).iter().map(|(key, value)| format!("{key}={value}")).collect();
    parts.join(",")
}

/// What selects the pods of the operator: the chart gives them this name.
pub fn operator_pods() -> BTreeMap<String, String> {
    [(NAME.to_owned(), OPERATOR.to_owned())].into()
}

/// The labels of a component's objects.
pub fn labels(cache: &str, component: Component) -> BTreeMap<String, String> {
    let mut labels = selector(cache, component);
    labels.insert(MANAGED_BY.to_owned(), OPERATOR.to_owned());
    labels
}

/// Selects everything of a cache that the operator made.
pub fn all_of(cache: &str) -> String {
    format!("{INSTANCE}={cache},{MANAGED_BY}={OPERATOR}")
}

/// Selects the pods of some components.
pub fn pods_of(cache: &str, components: &[Component]) -> String {
    let names: Vec<&str> = components.iter().map(|component| component.as_str()).collect();
    format!("{INSTANCE}={cache},{COMPONENT} in ({})", names.join(","))
}

/// Whether an object with these labels belongs to a component.
pub fn is_of(labels: &BTreeMap<String, String>, component: Component) -> bool {
    labels.get(COMPONENT).is_some_and(|label| label == component.as_str())
}

/// The cache that an object with these labels belongs to.
pub fn cache_of(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get(INSTANCE).map(String::as_str)
}

/// Selects everything that the operator made of a kind.
pub fn all_of_component(component: Component) -> String {
    format!("{COMPONENT}={},{MANAGED_BY}={OPERATOR}", component.as_str())
}

/// Whether a Secret is one that the operator made for this cache, or for one of its name before.
pub fn is_ours(secret: &Secret, cache: &str) -> bool {
    let label = |key: &str| secret.labels().get(key).map(String::as_str);
    label(MANAGED_BY) == Some(OPERATOR) && label(INSTANCE) == Some(cache)
}

/// The metadata of a child.
pub fn child(
    name: String,
    namespace: &str,
    labels: BTreeMap<String, String>,
    owner: Option<&OwnerReference>,
) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels),
        owner_references: owner.map(|owner| vec![owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// What makes `object` the controller of its children. Only of objects that the API server gave us.
pub fn owner<K: Resource<DynamicType = ()>>(object: &K) -> OwnerReference {
    object.controller_owner_ref(&()).expect("an object read from the API server should have name and uid")
}

/// Whether `object` is a child of the owner with this uid.
pub fn is_child_of(object: &ObjectMeta, uid: &str) -> bool {
    object.owner_references.iter().flatten().any(|owner| owner.uid == uid && owner.controller == Some(true))
}
