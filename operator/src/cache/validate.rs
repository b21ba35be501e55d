//! Pure: everything doubtful about a spec becomes a plain value or a reason.

mod keys;
mod secrets;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt as _;
use niks3_protocol::server_config::{self, AddressingStyle as ServerAddressing};

use crate::args::Images;
use crate::crd::binary_cache::{
    AddressingStyle, Auth, EmbeddedDatabase, EmbeddedStorage, KubernetesAuthMode, PullPolicy, ReadProxyMode,
    RetentionMode, S3, Suspend,
};
use crate::crd::conditions::Reason;
use crate::crd::schema::Resources;
use crate::crd::{BinaryCache, BinaryCacheSpec};
use crate::labels;

use super::observe::{Observed, with_slash};
pub use keys::Signing;
use secrets::Resolver;
pub use secrets::{Generated, Missing, SecretFile};

/// A spec that cannot be carried out. It waits for an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// For the condition.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}

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
    /// `Priority` of `nix-cache-info`.
    pub priority: i32,
    /// Whether the server serves what the cache holds.
    pub read_proxy: bool,
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
    /// How many pods; none while the server is suspended.
    pub replicas: i32,
    /// Whether the server stands still.
    pub suspended: bool,
    /// Of the server.
    pub image: String,
    /// Of the server's and embedded images.
    pub pull_policy: Option<PullPolicy>,
    /// Of the server.
    pub resources: Resources,
    /// The Secrets the pods read, and which version of them.
    pub secret_versions: BTreeMap<String, String>,
    /// What the spec refers to and is not there.
    pub missing: Vec<Missing>,
}

/// Where the objects are.
#[derive(Debug)]
pub enum Storage {
    /// A bucket of the user's own.
    Own {
        /// The bucket, without paths of credentials.
        section: Box<server_config::S3Section>,
        /// The Secret's key with the access key id.
        access_key: SecretFile,
        /// The Secret's key with the secret access key.
        secret_key: SecretFile,
    },
    /// A server the operator runs.
    Embedded(Box<Embedded>),
}

/// Where the index is.
#[derive(Debug)]
pub enum Database {
    /// A database of the user's own, by its URL.
    Own(SecretFile),
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
    pub credentials: Generated,
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

/// Makes a spec and what was found into a cache that can be built.
pub fn validate(cache: &BinaryCache, observed: &Observed, images: &Images) -> Result<ValidCache, Invalid> {
    let spec = &cache.spec;
    let (name, namespace) = (cache.name_any(), cache.namespace().unwrap_or_default());
    if let Some(other) = &observed.bucket_taken_by {
        let message =
            format!("BinaryCache {other} is older and has this bucket and prefix; choose another prefix");
        return Err(Invalid { reason: Reason::BucketConflict, message });
    }
    let suspended = spec.suspend == Suspend::Server;
    let endpoint = labels::endpoint(&name, &namespace);
    let url = spec.url.clone().unwrap_or_else(|| endpoint.clone());
    let mut resolver = Resolver::new(&name, observed);
    let signing = Signing::of(spec, &url, &mut resolver)?;
    let storage = storage(spec, &mut resolver, images)?;
    let database = database(spec, &mut resolver, images)?;
    let tokens = tokens(&spec.auth, &mut resolver);
    let known = cache.status.as_ref().map(|status| status.public_keys.clone()).unwrap_or_default();
    let audience = (spec.auth.kubernetes.mode == KubernetesAuthMode::Enabled).then(|| audience(cache));
    Ok(ValidCache {
        owner: labels::owner(cache),
        public_keys: signing.public_key().map_or(known, |key| vec![key]),
        rules: rules(&spec.auth, &name, &namespace),
        priority: spec.cache_info.priority,
        read_proxy: spec.server.read_proxy.mode == ReadProxyMode::Proxy,
        replicas: if suspended { 0 } else { spec.server.replicas },
        suspended,
        image: server_image(spec, images),
        pull_policy: spec.server.image_pull_policy.or(images.pull_policy),
        resources: spec.server.resources.clone(),
        secret_versions: resolver.versions,
        missing: resolver.missing,
        name,
        namespace,
        url,
        endpoint,
        storage,
        database,
        signing,
        audience,
        tokens,
    })
}

/// The audience that tokens for a cache are made for.
pub fn audience(cache: &BinaryCache) -> String {
    let own = cache.spec.auth.kubernetes.audience.clone();
    own.unwrap_or_else(|| labels::default_audience(&cache.name_any(), &cache.namespace().unwrap_or_default()))
}

/// The image of a cache's server and collector.
pub fn server_image(spec: &BinaryCacheSpec, images: &Images) -> String {
    spec.server.image.clone().unwrap_or_else(|| images.server.clone())
}

fn union(what: &str) -> Invalid {
    // The API server has refused this already; an object stored before a rule existed may still say it.
    Invalid { reason: Reason::InvalidSpec, message: format!("{what}: set exactly one of its fields") }
}

fn storage(spec: &BinaryCacheSpec, resolver: &mut Resolver<'_>, images: &Images) -> Result<Storage, Invalid> {
    match (&spec.storage.s3, &spec.storage.embedded) {
        (Some(s3), None) => {
            let secret = s3.credentials.secret_ref.as_ref().ok_or_else(|| union("storage.s3.credentials"))?;
            Ok(Storage::Own {
                section: Box::new(section(s3)),
                access_key: resolver.file(&secret.name, &secret.access_key_id_key),
                secret_key: resolver.file(&secret.name, &secret.secret_access_key_key),
            })
        }
        (None, Some(embedded)) => {
            let EmbeddedStorage { size, storage_class_name, image, resources } = embedded.clone();
            let name = labels::Names(resolver.cache).s3();
            Ok(Storage::Embedded(Box::new(Embedded {
                size: size.0,
                storage_class_name,
                image: image.unwrap_or_else(|| images.s3.clone()),
                resources,
                credentials: resolver.generated(&name)?,
            })))
        }
        _ => Err(union("storage")),
    }
}

fn section(s3: &S3) -> server_config::S3Section {
    server_config::S3Section {
        endpoint: s3.endpoint.clone(),
        public_endpoint: s3.public_endpoint.clone(),
        bucket: s3.bucket.clone(),
        prefix: with_slash(&s3.prefix),
        region: s3.region.clone(),
        addressing_style: match s3.addressing_style {
            AddressingStyle::Auto => ServerAddressing::Auto,
            AddressingStyle::Path => ServerAddressing::Path,
            AddressingStyle::VirtualHosted => ServerAddressing::VirtualHosted,
        },
        ..server_config::S3Section::default()
    }
}

fn database(
    spec: &BinaryCacheSpec,
    resolver: &mut Resolver<'_>,
    images: &Images,
) -> Result<Database, Invalid> {
    match (&spec.database.url_secret_ref, &spec.database.embedded) {
        (Some(url), None) => Ok(Database::Own(resolver.file(&url.name, &url.key))),
        (None, Some(embedded)) => {
            let EmbeddedDatabase { size, storage_class_name, image, resources } = embedded.clone();
            let name = labels::Names(resolver.cache).postgres();
            Ok(Database::Embedded(Box::new(Embedded {
                size: size.0,
                storage_class_name,
                image: image.unwrap_or_else(|| images.postgres.clone()),
                resources,
                credentials: resolver.generated(&name)?,
            })))
        }
        _ => Err(union("database")),
    }
}

fn tokens(auth: &Auth, resolver: &mut Resolver<'_>) -> Vec<Token> {
    auth.static_tokens
        .iter()
        .map(|token| Token {
            name: token.name.clone(),
            secret: resolver.file(&token.secret_key_ref.name, &token.secret_key_ref.key),
            permissions: token.permissions.iter().copied().map(Into::into).collect(),
            pins: token.pins.clone(),
        })
        .collect()
}

/// The user's rules, and the one that lets the cache's own collector collect.
fn rules(auth: &Auth, cache: &str, namespace: &str) -> Vec<server_config::KubernetesRule> {
    let account = |namespace: &str, name: &str| server_config::ServiceAccountRef {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let users = auth.kubernetes.rules.iter().map(|rule| server_config::KubernetesRule {
        name: rule.name.clone(),
        service_accounts: rule.service_accounts.iter().map(|to| account(&to.namespace, &to.name)).collect(),
        permissions: rule.permissions.iter().copied().map(Into::into).collect(),
        pins: rule.pins.clone(),
    });
    let collector = server_config::KubernetesRule {
        // No user's rule can have this name: a dot is not allowed there.
        name: "niks3.dev/gc".to_owned(),
        service_accounts: vec![account(namespace, &labels::Names(cache).gc())],
        permissions: vec![niks3_protocol::api::Permission::Gc],
        pins: Vec::new(),
    };
    users.chain([collector]).collect()
}

/// Whether the generated signing keys outlive the cache.
fn retains_keys(spec: &BinaryCacheSpec) -> bool {
    spec.deletion_policy.signing_keys == RetentionMode::Retain
}
