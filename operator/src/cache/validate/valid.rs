//! What a valid cache is.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use niks3_protocol::duration::GoDuration;
use niks3_protocol::server_config;

use crate::crd::binary_cache::{
    Autoscaling, CacheInfo, DatabaseConnection, PullPolicy, ReadProxyMode, Scheduling, ServerHttpRoute,
    ServerIngress, ServerNetworkPolicy, ServerService, WantedServiceMonitor, WorkloadIdentity,
};
use crate::crd::schema::Resources;

use super::ca::CaFile;
use super::credentials::{Credentials, Request};
use super::identities::{Certificates, Issuer, Tls};
use super::keys::Signing;
use super::secrets::{Missing, SecretFile};

/// A cache that can be built.
#[derive(Debug)]
pub struct ValidCache {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What makes it the owner of its children.
    pub owner: OwnerReference,
    /// Where Nix reads from.
    pub url: String,
    /// Its address inside the cluster.
    pub endpoint: String,
    /// `nix-cache-info`.
    pub cache_info: CacheInfo,
    /// How the server serves what the cache holds.
    pub reads: ReadProxyMode,
    /// Whether readers have to say who they are.
    pub private: bool,
    /// What clients upload.
    pub uploads: server_config::UploadsSection,
    /// How long upload addresses live.
    pub presign_expiry: GoDuration,
    /// Of each pod, to the database.
    pub pool: Connections,
    /// The schema of the tables, where it is not the database's own choice.
    pub schema: Option<String>,
    /// Who brings them up to date.
    pub migrations: server_config::MigrationMode,
    /// How long readers' addresses live.
    pub redirect_ttl: GoDuration,
    /// CAs of the S3 server.
    pub storage_ca: Option<CaFile>,
    /// CAs of the database.
    pub database_ca: Option<CaFile>,
    /// The server's certificate, where it speaks TLS itself.
    pub tls: Option<Tls>,
    /// Whose tokens are taken, beside the cluster's.
    pub issuers: Vec<Issuer>,
    /// Who proves itself by a client certificate.
    pub certificates: Option<Certificates>,
    /// What the pods have beside all else.
    pub pod_template: Option<Box<PodTemplateSpec>>,
    /// What is asked for of generated credentials.
    pub credentials_request: Request,
    /// Where the objects are.
    pub storage: Storage,
    /// Where the index is.
    pub database: Database,
    /// What it signs with.
    pub signing: Signing,
    /// For `trusted-public-keys`; as last known while the key is missing.
    pub public_keys: Vec<String>,
    /// The audience of ServiceAccount tokens; none where they are not taken.
    pub audience: Option<String>,
    /// Who may do what.
    pub rules: Vec<server_config::KubernetesRule>,
    /// Shared secrets.
    pub tokens: Vec<Token>,
    /// How many pods; 0 while the server is suspended. Left to the autoscaler where there is one.
    pub replicas: Option<i32>,
    /// How many pods the load asks for.
    pub autoscaling: Option<Autoscaling>,
    /// How many pods the operator itself asked for last; the autoscaler begins with as many.
    pub replicas_before: Option<i32>,
    /// Whether the server stands still.
    pub suspended: bool,
    /// Of the server.
    pub image: String,
    /// Of the server's and embedded images.
    pub pull_policy: Option<PullPolicy>,
    /// What images are pulled with.
    pub pull_secrets: Vec<String>,
    /// Of the server.
    pub resources: Resources,
    /// Where the server's pods run.
    pub scheduling: Scheduling,
    /// How the server is reached.
    pub service: ServerService,
    /// A way in from outside.
    pub ingress: Option<ServerIngress>,
    /// A way in from outside.
    pub http_route: Option<ServerHttpRoute>,
    /// How Prometheus is told of the metrics, where it is.
    pub monitor: Option<WantedServiceMonitor>,
    /// In which other namespaces clients find what they need.
    pub clients: Option<LabelSelector>,
    /// Whether some may have found it there before.
    pub published_before: bool,
    /// The Secret with the Ingress' certificate, where it is missing.
    pub certificate_missing: Option<String>,
    /// How much callers may ask for.
    pub limits: server_config::LimitsSection,
    /// How stored narinfos are signed again.
    pub resign: server_config::ResignSection,
    /// Who may speak to whom, where that is limited.
    pub network: Option<Network>,
    /// How many pods may be moved at a time; none where nothing is said about that.
    pub max_unavailable: Option<IntOrString>,
    /// The Secrets the pods read, and which version of them.
    pub secret_versions: BTreeMap<String, String>,
    /// What the spec refers to and is not there.
    pub missing: Vec<Missing>,
}

impl ValidCache {
    /// How many pods there may be.
    pub fn most_pods(&self) -> i32 {
        self.autoscaling.as_ref().map_or(self.replicas.unwrap_or(1), |scaling| scaling.max_replicas)
    }

    /// The embedded servers, as people call them.
    pub fn embedded(&self) -> impl Iterator<Item = (&'static str, &Embedded)> {
        let storage = if let Storage::Embedded(server) = &self.storage { Some(&**server) } else { None };
        let database = if let Database::Embedded(server) = &self.database { Some(&**server) } else { None };
        storage.map(|server| ("S3", server)).into_iter().chain(database.map(|server| ("PostgreSQL", server)))
    }

    /// Whether the access key of S3 ends, and has a session token.
    pub fn has_session(&self) -> bool {
        let access = if let Storage::Own { access, .. } = &self.storage { Some(access) } else { None };
        matches!(access, Some(S3Access::Keys { session_token: Some(_), .. }))
    }

    /// The identity that the cloud knows the pods by.
    pub fn identity(&self) -> Option<&WorkloadIdentity> {
        match &self.storage {
            Storage::Own { access: S3Access::Identity(identity), .. } => Some(identity),
            _ => None,
        }
    }
}

/// The connections of each pod to the database.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// At most.
    pub max: u32,
    /// Those that are kept open.
    pub min: u32,
    /// How long a call waits for one.
    pub wait: GoDuration,
}

/// Who may speak to whom.
#[derive(Debug)]
pub struct Network {
    /// What the spec says.
    pub wanted: ServerNetworkPolicy,
    /// Where the API server listens, as it says.
    pub api_ports: BTreeSet<u16>,
    /// The operator's namespace.
    pub operator: String,
    /// The port of an S3 server of the user's own.
    pub s3_port: Option<u16>,
    /// The port of a database of the user's own.
    pub database_port: Option<u16>,
    /// The ports of issuers of tokens.
    pub issuer_ports: BTreeSet<u16>,
}

/// Where the objects are.
#[derive(Debug)]
pub enum Storage {
    /// A bucket of the user's own.
    Own {
        /// The bucket, without paths of credentials.
        section: Box<server_config::S3Section>,
        /// How the server proves who it is.
        access: S3Access,
        /// Requests that one push may have under way.
        concurrency: i32,
    },
    /// A server the operator runs.
    Embedded(Box<Embedded>),
}

/// How the server proves to S3 who it is.
#[derive(Debug)]
pub enum S3Access {
    /// By an access key.
    Keys {
        /// The Secret's key with the access key id.
        access_key: SecretFile,
        /// The Secret's key with the secret access key.
        secret_key: SecretFile,
        /// The Secret's key with the session token, where these keys end.
        session_token: Option<SecretFile>,
    },
    /// By the ServiceAccount of its pods.
    Identity(WorkloadIdentity),
}

/// Where the index is.
#[derive(Debug)]
pub enum Database {
    /// A database of the user's own, by its URL.
    Own(SecretFile),
    /// A database of the user's own, part by part.
    Connection {
        /// Where, and how it is encrypted.
        to: Box<DatabaseConnection>,
        /// The Secret's key with the user's name.
        user: SecretFile,
        /// The Secret's key with the password.
        password: SecretFile,
    },
    /// A server the operator runs.
    Embedded(Box<Embedded>),
}

/// A server the operator runs on a volume.
#[derive(Debug)]
pub struct Embedded {
    /// Size of the volume.
    pub size: String,
    /// Class of the volume.
    pub storage_class_name: Option<String>,
    /// What runs.
    pub image: String,
    /// CPU and memory.
    pub resources: Resources,
    /// Its credentials.
    pub credentials: Credentials,
}

/// A shared secret.
#[derive(Debug)]
pub struct Token {
    /// What logs call its bearer.
    pub name: String,
    /// Where it is.
    pub secret: SecretFile,
    /// What its bearer may do.
    pub permissions: Vec<niks3_protocol::api::Permission>,
    /// Which pins its bearer may write.
    pub pins: Vec<String>,
}
