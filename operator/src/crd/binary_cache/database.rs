//! `spec.database`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crd::schema::{Duration, Quantity, Resources};

use super::CaSource;

/// Where the index of the objects is kept.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[x_kube(validation = Rule::new("[has(self.urlSecretRef), has(self.connection), has(self.cloudNativePG), has(self.embedded)].exists_one(x, x)")
    .message("database: set exactly one of urlSecretRef, connection, cloudNativePG and embedded").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new("!has(self.ca) || !(has(self.embedded) || (has(self.connection) && self.connection.sslMode == 'Disable'))")
    .message("database.ca: only for a database of your own, and not with sslMode: Disable").field_path(".ca").reason(Reason::FieldValueForbidden))]
#[x_kube(validation = Rule::new("!has(self.schema) || !self.schema.startsWith('pg_')")
    .message("database.schema: must not begin with pg_, as PostgreSQL's own do").field_path(".schema").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new("has(self.schema) == has(oldSelf.schema) && (!has(self.schema) || self.schema == oldSelf.schema)")
    .message("database.schema: cannot be changed; the index would be lost to the cache").field_path(".schema").reason(Reason::FieldValueForbidden))]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// A PostgreSQL of your own (15 or newer), as a URL in a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<DatabaseUrlRef>,
    /// A PostgreSQL of your own, part by part, with user and password in a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<DatabaseConnection>,
    /// A cluster of CloudNativePG in the cache's namespace, by name. Only its Secret is read.
    #[serde(default, rename = "cloudNativePG", skip_serializing_if = "Option::is_none")]
    pub cloud_native_pg: Option<CloudNativePg>,
    /// A PostgreSQL that the operator runs on a volume, for trying out and for small teams. The volume stays
    /// when the cache is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedDatabase>,
    /// CAs that may have signed the database's certificate, beside those the image knows. With it the connection is
    /// always encrypted, and certificate and name are verified (with `VerifyCA`, the certificate alone). That of
    /// CloudNativePG is in the Secret `CLUSTER-ca`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
    /// The schema of the tables, made where it is missing: so that several caches may share a database. Left out, it
    /// is the database's own choice. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z_][a-z0-9_]*$"))]
    pub schema: Option<String>,
    /// The connections of each pod of the server.
    #[serde(default)]
    pub pool: Pool,
    /// Who brings the tables up to date when the server is another version.
    #[serde(default)]
    pub migrations: Migrations,
}

/// Who brings the tables up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum Migrations {
    /// The server, at its start, under a lock.
    #[default]
    Automatic,
    /// You, by `kubectl niks3 migrate`. Until then new pods change nothing and are not ready, and those of before go on.
    Manual,
}

/// A PostgreSQL of your own, part by part.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseConnection {
    /// The name or address of the server.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9._:-]+$"))]
    pub host: String,
    /// Its port.
    #[serde(default = "DatabaseConnection::default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The database's name.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub database: String,
    /// The Secret with user and password; neither may hold white space.
    pub user_secret_ref: UserSecretRef,
    /// Whether the connection is encrypted, and what is verified.
    #[serde(default)]
    pub ssl_mode: SslMode,
}

impl DatabaseConnection {
    fn default_port() -> i32 {
        5432
    }
}

/// A Secret with user and password.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserSecretRef {
    /// The Secret's name, in the cache's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key within the Secret that holds the user's name.
    #[serde(default = "UserSecretRef::default_username_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub username_key: String,
    /// The key within the Secret that holds the password.
    #[serde(default = "UserSecretRef::default_password_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub password_key: String,
}

impl UserSecretRef {
    fn default_username_key() -> String {
        "username".to_owned()
    }

    fn default_password_key() -> String {
        "password".to_owned()
    }
}

/// Whether a connection is encrypted, and what is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum SslMode {
    /// Not encrypted.
    Disable,
    /// Encrypted; whoever answers is believed, unless a `ca` is given.
    Require,
    /// The certificate is verified.
    #[serde(rename = "VerifyCA")]
    VerifyCa,
    /// Certificate and name are verified.
    #[default]
    VerifyFull,
}

impl SslMode {
    /// As libpq spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// The connections of each pod of the server.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.minIdle <= self.maxConnections")
    .message("pool.minIdle: must not be more than maxConnections").field_path(".minIdle").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new("duration(self.acquireTimeout) >= duration('1s') && duration(self.acquireTimeout) <= duration('10m')")
    .message("pool.acquireTimeout: from 1s to 10m").field_path(".acquireTimeout").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// How many connections a pod opens at most. All pods together must stay below the database's own limit: the condition
    /// `DatabaseReady` warns, with the reason `TooFewConnections`, where they may not.
    #[serde(default = "Pool::default_max_connections")]
    #[schemars(range(min = 2, max = 1000))]
    pub max_connections: i32,
    /// How many a pod keeps open while there is nothing to do. Others are closed after a minute.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub min_idle: i32,
    /// How long a call waits for a connection while all are in use: 503 after that, and clients come again.
    #[serde(default = "Pool::default_acquire_timeout")]
    pub acquire_timeout: Duration,
}

impl Pool {
    fn default_acquire_timeout() -> Duration {
        "15s".into()
    }

    fn default_max_connections() -> i32 {
        10
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            max_connections: Self::default_max_connections(),
            min_idle: 0,
            acquire_timeout: Self::default_acquire_timeout(),
        }
    }
}

/// The database's URL, `postgres://user:password@host/database`, in a Secret.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseUrlRef {
    /// The Secret's name, in the cache's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key within the Secret.
    #[serde(default = "DatabaseUrlRef::default_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

impl DatabaseUrlRef {
    fn default_key() -> String {
        "uri".to_owned()
    }
}

/// A cluster of CloudNativePG. What it writes about its application's user, under the key `uri`, is the address.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudNativePg {
    /// The name of the `Cluster`.
    #[schemars(length(min = 1, max = 50))]
    pub cluster_name: String,
    /// The Secret. Left out, it is `CLUSTER-app`. Until CloudNativePG has made it, the cache waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
}

impl CloudNativePg {
    /// Where the address stands.
    pub fn secret(&self) -> String {
        self.secret_name.clone().unwrap_or_else(|| format!("{}-app", self.cluster_name))
    }
}

/// A PostgreSQL that the operator runs, with a generated password.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new(
    "has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)"
).message("embedded: the storageClassName of a volume cannot be changed").reason(Reason::FieldValueForbidden))]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedDatabase {
    /// The size of its volume. It can grow where the StorageClass lets volumes grow, and cannot shrink.
    #[serde(default = "EmbeddedDatabase::default_size")]
    pub size: Quantity,
    /// The StorageClass of its volume. Left out, it is the cluster's default. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// An image that follows the official `postgres` image. Left out, it is the one the operator was installed
    /// with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// CPU and memory.
    #[serde(default = "EmbeddedDatabase::default_resources")]
    pub resources: Resources,
}

impl EmbeddedDatabase {
    fn default_size() -> Quantity {
        "5Gi".into()
    }

    fn default_resources() -> Resources {
        Resources::new("100m", "256Mi", "1Gi")
    }
}
