//! `spec.storage`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crd::schema::{Quantity, Resources};

use super::{CaSource, S3Credentials, ServerSideEncryption};

/// Where the objects are kept.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[x_kube(validation = Rule::new("[has(self.s3), has(self.embedded)].exists_one(x, x)")
    .message("storage: set exactly one of s3 and embedded").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new("!has(oldSelf.s3) || has(self.s3)")
    .message("storage: a cache on s3 cannot move back to embedded").reason(Reason::FieldValueForbidden))]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// A bucket of your own, on AWS or any S3 server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
    /// An S3 server that the operator runs on a volume, for trying out and for small teams. The volume stays
    /// when the cache is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedStorage>,
}

/// A bucket of your own.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.bucket == oldSelf.bucket && self.prefix == oldSelf.prefix")
    .message("storage.s3: bucket and prefix cannot be changed; the objects would be lost to the cache")
    .reason(Reason::FieldValueForbidden))]
#[x_kube(validation = Rule::new(
    "!has(self.endpoint) || (isURL(self.endpoint) && url(self.endpoint).getScheme() in ['http', 'https'] && url(self.endpoint).getEscapedPath() in ['', '/'])"
).message("endpoint: must be http://host[:port] or https://host[:port]").field_path(".endpoint").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new(
    "!has(self.publicEndpoint) || (isURL(self.publicEndpoint) && url(self.publicEndpoint).getScheme() in ['http', 'https'] && url(self.publicEndpoint).getEscapedPath() in ['', '/'])"
).message("publicEndpoint: must be http://host[:port] or https://host[:port]").field_path(".publicEndpoint").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// The bucket's name. It must exist, and belong to one cache alone. It cannot be changed.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub bucket: String,

    /// The folder of the bucket to keep to, such as `nix/`; empty is the whole bucket. It cannot be changed.
    #[serde(default)]
    #[schemars(length(max = 256), regex(pattern = r"^([A-Za-z0-9_][A-Za-z0-9._-]*/?)*$"))]
    pub prefix: String,

    /// The S3 server, such as `https://minio.example.org:9000`. Left out, it is AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub endpoint: Option<String>,

    /// The S3 server under the name that clients reach it by, where that is another one than `endpoint`.
    /// Clients upload to S3 directly, to addresses signed for this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub public_endpoint: Option<String>,

    /// The bucket's region.
    #[serde(default = "S3::default_region")]
    #[schemars(length(min = 1, max = 64))]
    pub region: String,

    /// Where the bucket's name stands in an address.
    #[serde(default)]
    pub addressing_style: AddressingStyle,

    /// How the server proves who it is.
    pub credentials: S3Credentials,

    /// CAs that may have signed the S3 server's certificate, beside those the image knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,

    /// How S3 is told to encrypt what is written. Left out, it does what the bucket's default says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_side_encryption: Option<ServerSideEncryption>,

    /// Requests a second that each pod sends to S3 at most. Left out, any number, as long as S3 does not throttle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub requests_per_second: Option<i32>,

    /// Requests to S3 that one push may have under way.
    #[serde(default = "S3::default_max_concurrency")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_concurrency: i32,
}

impl S3 {
    fn default_max_concurrency() -> i32 {
        100
    }

    fn default_region() -> String {
        "us-east-1".to_owned()
    }
}

/// Where the bucket's name stands in an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum AddressingStyle {
    /// In the path where an endpoint is given, else in the host.
    #[default]
    Auto,
    /// In the path: `https://host/bucket/key`.
    Path,
    /// In the host: `https://bucket.host/key`.
    VirtualHosted,
}

/// An S3 server (versitygw) that the operator runs, with generated credentials and a bucket.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new(
    "has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)"
).message("embedded: the storageClassName of a volume cannot be changed").reason(Reason::FieldValueForbidden))]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedStorage {
    /// The size of its volume. It can grow where the StorageClass lets volumes grow, and cannot shrink.
    #[serde(default = "EmbeddedStorage::default_size")]
    pub size: Quantity,
    /// The StorageClass of its volume. Left out, it is the cluster's default. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// The image of versitygw. Left out, it is the one the operator was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// CPU and memory.
    #[serde(default = "EmbeddedStorage::default_resources")]
    pub resources: Resources,
}

impl EmbeddedStorage {
    fn default_size() -> Quantity {
        "10Gi".into()
    }

    fn default_resources() -> Resources {
        Resources::new("50m", "64Mi", "512Mi")
    }
}
