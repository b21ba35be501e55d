//! `BinaryCache`: a Nix binary cache. The comments of the fields are what `kubectl explain` shows.

mod access;
mod ca;
mod clients;
mod credentials;
mod database;
mod encryption;
mod identities;
mod server;
mod signing;
mod status;
mod storage;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use access::{
    Auth, KubernetesAuth, KubernetesAuthMode, KubernetesRule, Permission, ReadAccess, ServiceAccountRef,
    StaticToken,
};
pub use ca::{CaKeyRef, CaSource, CrlKeyRef, CrlSource};
pub use clients::Clients;
pub use credentials::{S3Credentials, S3SecretRef, WorkloadIdentity};
pub use database::{
    CloudNativePg, Database, DatabaseConnection, DatabaseUrlRef, EmbeddedDatabase, Migrations, Pool, SslMode,
    UserSecretRef,
};
pub use encryption::{EncryptionType, ServerSideEncryption};
pub use identities::{
    CertificateProxy, CertificateRule, ClaimMatch, ClientCertificates, OidcIssuer, OidcRule,
};
pub use server::{
    Autoscaling, BoundAddresses, CertManager, DisruptionBudget, DisruptionMode, IssuerRef, NetworkPolicyMode,
    ParentRef, PullPolicy, PullSecret, ReadProxy, ReadProxyMode, Scheduling, Server, ServerHttpRoute,
    ServerIngress, ServerLimits, ServerMetrics, ServerNetworkPolicy, ServerService, ServerTls,
    ServiceMonitorMode, ServiceType, Uploads, VerifyUploads, WantedServiceMonitor,
};
pub use signing::{KeyStage, Promotion, Resign, Rotation, Signing, SigningKey};
pub use status::{BinaryCacheStatus, LastGC, ResignProgress, ResignState, SigningKeyStatus};
pub use storage::{AddressingStyle, EmbeddedStorage, S3, Storage};

/// On a cache: an RFC 3339 time. Generated credentials of the embedded servers that are older are followed by new ones.
pub const ROTATE_CREDENTIALS: &str = "niks3.dev/rotate-credentials";

/// What the cache should be. Objects are kept in S3, the index of them in PostgreSQL; both may be brought
/// along or run by the operator.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "niks3.dev",
    version = "v1alpha1",
    kind = "BinaryCache",
    plural = "binarycaches",
    shortname = "bcache",
    category = "nix",
    namespaced,
    doc = "A Nix binary cache: clients push store paths to it, Nix reads them from it.",
    status = "BinaryCacheStatus",
    derive = "PartialEq",
    selectable = ".spec.storage.s3.bucket",
    scale(
        spec_replicas_path = ".spec.server.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Objects", type_ = "integer", json_path = ".status.objects"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.size"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.readyReplicas", priority = 1),
    printcolumn(name = "Last-GC", type_ = "date", json_path = ".status.lastGC.finishedAt", priority = 1),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.serverVersion", priority = 1),
    printcolumn(name = "Key", type_ = "string", json_path = ".status.publicKeys[0]", priority = 1),
    validation = Rule::new(
        "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
    )
    .message("metadata.name: at most 40 characters of a-z, 0-9 and -, beginning with a letter")
    .reason(Reason::FieldValueInvalid),
    validation = Rule::new("!self.metadata.name.matches('-(s3|postgres|gc)$')")
        .message("metadata.name: must not end in -s3, -postgres or -gc, the names of what a cache is made of")
        .reason(Reason::FieldValueInvalid)
)]
#[x_kube(validation = Rule::new(
    "!has(self.url) || (isURL(self.url) && url(self.url).getScheme() in ['http', 'https'] && !self.url.endsWith('/'))"
).message("url: must begin with http:// or https:// and must not end in /").field_path(".url").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new("self.auth.read == 'Public' || self.server.readProxy.mode != 'Disabled'")
    .message("auth.read: Authenticated needs server.readProxy.mode Proxy or Redirect; what Nix reads from the bucket itself cannot be guarded here")
    .field_path(".auth.read").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new("!has(self.auth.clientCertificates) || !has(self.auth.clientCertificates.ca) || has(self.server.tls)")
    .message("auth.clientCertificates: ca needs server.tls; where a proxy verifies certificates, set proxy in place of ca")
    .field_path(".auth.clientCertificates").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct BinaryCacheSpec {
    /// Where Nix reads from: the line for `substituters`, such as `https://cache.example.org`. Default: `https://`
    /// and the first name of `server.httpRoute`, else that of `server.ingress` (`http://` without TLS), else the
    /// address inside the cluster, `http://NAME.NAMESPACE.svc`, or `https://` with `server.tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub url: Option<String>,

    /// What the cache says of itself in `nix-cache-info`.
    #[serde(default)]
    pub cache_info: CacheInfo,

    /// Where the objects are kept. Exactly one of `s3` and `embedded`.
    pub storage: Storage,

    /// Where the index of the objects is kept. Exactly one of `urlSecretRef`, `connection`, `cloudNativePG` and
    /// `embedded`.
    pub database: Database,

    /// With which keys store paths are signed. Left out, a key is generated.
    #[serde(default)]
    pub signing: Signing,

    /// Who may push, pin and collect, and whether reading is open to everybody who reaches the cache.
    #[serde(default)]
    pub auth: Auth,

    /// Where clients find what they need.
    #[serde(default)]
    pub clients: Clients,

    /// How the server runs.
    #[serde(default)]
    pub server: Server,

    /// Stops the operator or the server for a while. `Reconcile`: the operator changes nothing of this cache, not
    /// even what somebody else broke. `Server`: the server's pods and the collections stop; volumes, keys and
    /// embedded servers stay, so that Nix still reads from a bucket that clients reach themselves.
    #[serde(default)]
    pub suspend: Suspend,

    /// What happens to things that cannot be made again when the cache is deleted. Buckets, databases and
    /// volumes are never deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What the cache says of itself.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.storeDir == oldSelf.storeDir")
    .message("cacheInfo.storeDir: cannot be changed; every path in the cache lies there").field_path(".storeDir").reason(Reason::FieldValueForbidden))]
#[serde(rename_all = "camelCase")]
pub struct CacheInfo {
    /// Nix asks caches in the order of their priority, the lowest first. cache.nixos.org has 40.
    #[serde(default = "CacheInfo::default_priority")]
    #[schemars(range(min = 0, max = 1000))]
    pub priority: i32,
    /// Whether Nix may ask for many paths at once, as `nix-env -qas` does.
    #[serde(default = "CacheInfo::default_want_mass_query")]
    pub want_mass_query: bool,
    /// The store that the paths are made for. It cannot be changed.
    #[serde(default = "CacheInfo::default_store_dir")]
    #[schemars(length(max = 256), regex(pattern = r"^(/[A-Za-z0-9_+][A-Za-z0-9._+-]*)+$"))]
    pub store_dir: String,
}

impl CacheInfo {
    fn default_want_mass_query() -> bool {
        true
    }

    fn default_store_dir() -> String {
        "/nix/store".to_owned()
    }

    fn default_priority() -> i32 {
        30
    }
}

impl Default for CacheInfo {
    fn default() -> Self {
        Self {
            priority: Self::default_priority(),
            want_mass_query: Self::default_want_mass_query(),
            store_dir: Self::default_store_dir(),
        }
    }
}

/// One key of a Secret in the cache's namespace.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key within the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// What stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum Suspend {
    /// Nothing.
    #[default]
    None,
    /// The operator keeps its hands off.
    Reconcile,
    /// No pod of the server runs and nothing is collected.
    Server,
}

/// What happens when the cache is deleted.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct DeletionPolicy {
    /// Whether generated signing keys stay. A retained key is taken up again by a cache of the same name;
    /// without it all clients must learn a new key.
    #[serde(default)]
    pub signing_keys: RetentionMode,
}

/// Whether something stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum RetentionMode {
    /// It stays.
    #[default]
    Retain,
    /// It goes with the cache.
    Delete,
}
