//! Where objects and index are.

use k8s_openapi::jiff::SignedDuration;
use niks3_protocol::server_config::{self, AddressingStyle as ServerAddressing};

use crate::args::Images;
use crate::cache::observe::with_slash;
use crate::crd::BinaryCacheSpec;
use crate::crd::binary_cache::{
    AddressingStyle, Database as DatabaseSpec, EmbeddedDatabase, EmbeddedStorage, EncryptionType, Migrations,
    Pool, S3, S3Credentials,
};
use crate::crd::conditions::Reason;
use crate::labels;

use super::credentials::{Request, credentials};
use super::secrets::Resolver;
use super::{Connections, Database, Embedded, Invalid, Missing, S3Access, Storage, parse};

/// Where CloudNativePG writes the address of the database.
pub(super) const CNPG_KEY: &str = "uri";

fn union(what: &str) -> Invalid {
    // The API server has refused this already; an object stored before a rule existed may still say it.
    Invalid { reason: Reason::InvalidSpec, message: format!("{what}: set exactly one of its fields") }
}

pub(super) fn storage(
    spec: &BinaryCacheSpec,
    request: &Request,
    linger: SignedDuration,
    resolver: &mut Resolver<'_>,
    images: &Images,
) -> Result<Storage, Invalid> {
    match (&spec.storage.s3, &spec.storage.embedded) {
        (Some(s3), None) => {
            let access = access(&s3.credentials, resolver)?;
            let encryption = s3.server_side_encryption.as_ref();
            if encryption.is_some_and(|to| (to.type_ == EncryptionType::Kms) != to.kms_key_id.is_some()) {
                // The API server refuses this; it may have been stored under an older schema.
                let message = "storage.s3.serverSideEncryption: kmsKeyId goes with type: KMS".to_owned();
                return Err(Invalid { reason: Reason::InvalidSpec, message });
            }
            Ok(Storage::Own { section: Box::new(section(s3)), access, concurrency: s3.max_concurrency })
        }
        (None, Some(embedded)) => {
            let EmbeddedStorage { size, storage_class_name, image, resources } = embedded.clone();
            let name = labels::Names(resolver.cache).s3();
            Ok(Storage::Embedded(Box::new(Embedded {
                size: size.0,
                storage_class_name,
                image: image.unwrap_or_else(|| images.s3.clone()),
                resources,
                credentials: credentials(&name, request, linger, resolver)?,
            })))
        }
        _ => Err(union("storage")),
    }
}

fn access(credentials: &S3Credentials, resolver: &mut Resolver<'_>) -> Result<S3Access, Invalid> {
    match (&credentials.secret_ref, &credentials.workload_identity) {
        (Some(secret), None) => {
            let versions = resolver.versions.clone();
            let access_key = resolver.file(&secret.name, &secret.access_key_id_key);
            let secret_key = resolver.file(&secret.name, &secret.secret_access_key_key);
            let session_token = secret.session_token_key.as_ref().map(|key| resolver.file(&secret.name, key));
            if session_token.is_some() {
                // The server reads all three again by itself: keys of each hour make no new pods.
                resolver.versions = versions;
            }
            Ok(S3Access::Keys { access_key, secret_key, session_token })
        }
        (None, Some(identity)) => {
            if let Some(account) = &identity.service_account_name
                && !resolver.observed.service_accounts.contains(account)
            {
                resolver.missing.push(Missing {
                    reason: Reason::ServiceAccountNotFound,
                    message: format!("ServiceAccount {account} does not exist"),
                });
            }
            Ok(S3Access::Identity(identity.clone()))
        }
        _ => Err(union("storage.s3.credentials")),
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
        encryption: s3.server_side_encryption.as_ref().map(|wanted| server_config::EncryptionSection {
            kind: match wanted.type_ {
                EncryptionType::Aes256 => server_config::EncryptionType::Aes256,
                EncryptionType::Kms => server_config::EncryptionType::Kms,
            },
            kms_key_id: wanted.kms_key_id.clone(),
        }),
        rate_limit: s3.requests_per_second.map_or(0, i32::unsigned_abs),
        ..server_config::S3Section::default()
    }
}

pub(super) fn migrations(database: &DatabaseSpec) -> server_config::MigrationMode {
    match database.migrations {
        Migrations::Automatic => server_config::MigrationMode::Automatic,
        Migrations::Manual => server_config::MigrationMode::Manual,
    }
}

pub(super) fn database(
    spec: &BinaryCacheSpec,
    request: &Request,
    resolver: &mut Resolver<'_>,
    images: &Images,
) -> Result<Database, Invalid> {
    let database = &spec.database;
    match (&database.url_secret_ref, &database.connection, &database.cloud_native_pg, &database.embedded) {
        (Some(url), None, None, None) => Ok(Database::Own(resolver.file(&url.name, &url.key))),
        (None, Some(to), None, None) => {
            let secret = &to.user_secret_ref;
            Ok(Database::Connection {
                user: resolver.file(&secret.name, &secret.username_key),
                password: resolver.file(&secret.name, &secret.password_key),
                to: Box::new(to.clone()),
            })
        }
        (None, None, Some(cluster), None) => Ok(Database::Own(resolver.file(&cluster.secret(), CNPG_KEY))),
        (None, None, None, Some(embedded)) => {
            let EmbeddedDatabase { size, storage_class_name, image, resources } = embedded.clone();
            let name = labels::Names(resolver.cache).postgres();
            Ok(Database::Embedded(Box::new(Embedded {
                size: size.0,
                storage_class_name,
                image: image.unwrap_or_else(|| images.postgres.clone()),
                resources,
                credentials: credentials(&name, request, SignedDuration::ZERO, resolver)?,
            })))
        }
        _ => Err(union("database")),
    }
}

/// The connections of each pod.
pub(super) fn pool(pool: &Pool) -> Result<Connections, Invalid> {
    let (max, min) = (pool.max_connections.unsigned_abs(), pool.min_idle.unsigned_abs());
    if min > max {
        // The API server refuses this; it may have been stored under an older schema.
        let message = "database.pool.minIdle: must not be more than maxConnections".to_owned();
        return Err(Invalid { reason: Reason::InvalidSpec, message });
    }
    Ok(Connections { max, min, wait: parse("database.pool.acquireTimeout", &pool.acquire_timeout)? })
}
