//! The server's configuration file (JSON): the operator renders it, the server loads it with
//! `--config` / `NIKS3_CONFIG`. It holds no secret, only paths of files that do. Where an environment
//! variable or flag of niks3 1.7 says something too, that wins.

mod auth;
mod encryption;
mod limits;
mod resign;

use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;

pub use auth::{
    AuthSection, CertificateProxy, CertificateRule, ClaimMatch, ClientCertificates, KubernetesAuth,
    KubernetesRule, OidcProvider, OidcRule, ServiceAccountRef, StaticToken,
};
pub use encryption::{EncryptionSection, EncryptionType};
pub use limits::{LARGEST_NAR, LimitsSection};
pub use resign::{ResignMode, ResignSection};

/// The whole file. A field left out has the value the server has without a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// What clients see of the cache.
    pub cache: CacheSection,
    /// PostgreSQL.
    pub database: DatabaseSection,
    /// The bucket.
    pub s3: S3Section,
    /// Files with secret keys, `name:base64`, one a line; read again when they change.
    pub signing_key_files: Vec<String>,
    /// Public keys (`name:base64`) that are trusted no more: their signatures are taken out of stored narinfos.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revoked_keys: Vec<String>,
    /// A file with more of them, separated by white space; read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_keys_file: Option<String>,
    /// How stored narinfos are signed again when the keys change.
    #[serde(skip_serializing_if = "is_default")]
    pub resign: ResignSection,
    /// Who may do what.
    pub auth: AuthSection,
    /// Whether narinfos and NARs are served from the bucket.
    pub read_proxy: bool,
    /// How long upload addresses live.
    pub presign_expiry: PresignExpiry,
    /// What clients upload.
    #[serde(skip_serializing_if = "is_default")]
    pub uploads: UploadsSection,
    /// How objects are read.
    #[serde(skip_serializing_if = "is_default")]
    pub reads: ReadsSection,
    /// TLS of the server's own; left out, it speaks plain HTTP, for a proxy in front.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSection>,
    /// How much callers may ask for.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: LimitsSection,
}

/// TLS of the server's own. Files that change are read again, without a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    /// A PEM file with the certificate, and those between it and its CA.
    pub cert_file: String,
    /// A PEM file with its key.
    pub key_file: String,
    /// A PEM file of the CAs of client certificates; left out, clients are asked for none. They may have one, they
    /// need not: what the others may do is for tokens to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<String>,
    /// A PEM file of their revocation lists, one for each of those CAs: of one without, no certificate counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_crl_file: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How objects are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct ReadsSection {
    /// Left out, `read_proxy` decides between `Proxy` and `Disabled`.
    pub mode: Option<ReadMode>,
    /// Only identities with the permission Read may read.
    pub private: bool,
    /// How long the addresses live that `Redirect` sends readers to.
    #[serde(skip_serializing_if = "is_default")]
    pub redirect_ttl: RedirectTtl,
}

/// How long the address of a NAR lives that a reader is sent to; 15 minutes unless said otherwise: it is used at
/// once, and asked for again by who resumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedirectTtl(pub GoDuration);

impl Default for RedirectTtl {
    fn default() -> Self {
        Self(GoDuration::seconds(15 * 60))
    }
}

/// How the server serves objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadMode {
    /// Not at all: Nix reads from the bucket.
    Disabled,
    /// All of them, from the bucket through the server.
    Proxy,
    /// NARs by a redirect to an address of the bucket that is valid for a while, the rest as with `Proxy`.
    Redirect,
}

/// What clients upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct UploadsSection {
    /// What the server looks at before it signs and commits.
    pub verify: VerifyUploads,
    /// Clients are told that they may ask for addresses bound to length and sha256.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bound: bool,
}

/// What the server looks at before it signs and commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum VerifyUploads {
    /// Nothing: clients are believed, and the cache is as whole as they say.
    None,
    /// Whether each new object is in the bucket, and as long as it must be.
    #[default]
    Head,
    /// That, and each new NAR is read back and compared with `NarHash` and `NarSize` before it is signed.
    Hash,
}

/// How long upload addresses live; 5 h, as in niks3 1.7, unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresignExpiry(pub GoDuration);

impl Default for PresignExpiry {
    fn default() -> Self {
        Self(GoDuration::hours(5))
    }
}

/// What clients see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheSection {
    /// The substituter URL.
    pub url: Option<String>,
    /// `Priority` of `nix-cache-info`: lower is asked first.
    pub priority: i32,
    /// `WantMassQuery` of `nix-cache-info`.
    pub want_mass_query: bool,
    /// `StoreDir` of `nix-cache-info`.
    pub store_dir: String,
}

impl Default for CacheSection {
    fn default() -> Self {
        Self { url: None, priority: 30, want_mass_query: true, store_dir: "/nix/store".to_owned() }
    }
}

/// PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSection {
    /// A file holding the URL, `postgres://user:password@host/database`.
    pub url_file: Option<String>,
    /// Connections at most.
    pub max_connections: u32,
    /// Connections that are kept open, however little there is to do.
    #[serde(skip_serializing_if = "is_default")]
    pub min_connections: u32,
    /// How long a call waits for a connection while all are in use.
    pub acquire_timeout: GoDuration,
    /// A PEM file of CAs that count beside the system's. With it the connection is always encrypted, and the
    /// server's certificate and name are verified, unless the URL says `sslmode=verify-ca`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// The schema that holds the cache's tables, made where it is missing; so that caches may share a database.
    /// `public` in an ordinary database where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Who runs migrations.
    #[serde(skip_serializing_if = "is_default")]
    pub migrations: MigrationMode,
}

impl Default for DatabaseSection {
    fn default() -> Self {
        Self {
            url_file: None,
            max_connections: 10,
            min_connections: 0,
            acquire_timeout: GoDuration::seconds(15),
            ca_file: None,
            schema: None,
            migrations: MigrationMode::default(),
        }
    }
}

/// Who runs migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum MigrationMode {
    /// The server, at its start.
    #[default]
    Automatic,
    /// Somebody, by `niks3-server migrate`; until then the server is not ready and changes nothing.
    Manual,
}

/// The bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Section {
    /// Origin of the S3 server, `https://host:port`; AWS where it is left out.
    pub endpoint: Option<String>,
    /// Origin that upload addresses are signed for, where clients reach S3 under another name.
    pub public_endpoint: Option<String>,
    /// Its name.
    pub bucket: String,
    /// Before every key; empty, or ending in `/`.
    pub prefix: String,
    /// Its region.
    pub region: String,
    /// `https://host/bucket/key` or `https://bucket.host/key`.
    pub addressing_style: AddressingStyle,
    /// A file holding the access key id; with neither file the environment's usual chain (web identity,
    /// instance profile) is asked.
    pub access_key_file: Option<String>,
    /// A file holding the secret access key.
    pub secret_key_file: Option<String>,
    /// A file holding the session token of keys that end. It and the files of its keys are read again and again, so that
    /// whoever replaces them before their end needs no restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token_file: Option<String>,
    /// How S3 is told to encrypt what is written; left out, it is told nothing, and does what the bucket's default says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionSection>,
    /// Make the bucket where it is missing.
    pub create_bucket: bool,
    /// Requests a second at most; 0 is any number, as long as S3 does not throttle.
    #[serde(skip_serializing_if = "is_default")]
    pub rate_limit: u32,
    /// A PEM file of CAs that count beside the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
}

impl Default for S3Section {
    fn default() -> Self {
        Self {
            endpoint: None,
            public_endpoint: None,
            bucket: String::new(),
            prefix: String::new(),
            region: "us-east-1".to_owned(),
            addressing_style: AddressingStyle::Auto,
            access_key_file: None,
            secret_key_file: None,
            session_token_file: None,
            encryption: None,
            create_bucket: false,
            rate_limit: 0,
            ca_file: None,
        }
    }
}

/// Where the bucket's name stands in an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum AddressingStyle {
    /// In the path where an endpoint is given, else in the host.
    #[default]
    Auto,
    /// In the path.
    Path,
    /// In the host.
    VirtualHosted,
}
