//! The server's configuration, and what clients mount. Neither holds a secret.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use niks3_protocol::server_config::{
    AuthSection, CacheSection, DatabaseSection, KubernetesAuth, OidcProvider, PresignExpiry, ReadMode,
    ReadsSection, RedirectTtl, S3Section, ServerConfig, StaticToken, TlsSection,
};

use crate::cache::validate::{Database, Issuer, KEYS, REVOKED, Storage, ValidCache};
use crate::crd::binary_cache::ReadProxyMode;
use crate::labels::{CA_FILE, CRL_FILE, Component, Names, child, labels};

use super::embedded::{S3_BUCKET, S3_PORT};

/// The key of the ConfigMap and the name of the file.
pub(super) const CONFIG_FILE: &str = "config.json";
/// Where the pod finds what.
pub(super) const CONFIG_FOLDER: &str = "/etc/niks3";
pub(super) const DATABASE_FOLDER: &str = "/var/run/niks3/database";
pub(super) const S3_FOLDER: &str = "/var/run/niks3/s3";
/// The file in there with a session token.
pub(super) const SESSION_TOKEN: &str = "session-token";
pub(super) const S3_CA_FOLDER: &str = "/var/run/niks3/s3-ca";
pub(super) const DATABASE_CA_FOLDER: &str = "/var/run/niks3/database-ca";
pub(super) const TLS_FOLDER: &str = "/var/run/niks3/tls";
pub(super) const CLIENT_CA_FOLDER: &str = "/var/run/niks3/client-ca";
pub(super) const CLIENT_CRL_FOLDER: &str = "/var/run/niks3/client-crl";
pub(super) const ISSUERS_FOLDER: &str = "/var/run/niks3/issuers";
pub(super) const SIGNING_FOLDER: &str = "/var/run/niks3/signing";
pub(super) const TOKENS_FOLDER: &str = "/var/run/niks3/tokens";
pub(super) const KUBERNETES_FOLDER: &str = "/var/run/niks3/kubernetes";

/// Goes with the pod template that mounts it by its name: a pod of an older template that starts again while a rollout
/// stands still has the older configuration, and never one that its server may not know.
pub(super) fn server(cache: &ValidCache) -> ConfigMap {
    let text = serde_json::to_string_pretty(&server_config(cache)).expect("a configuration should be JSON");
    let labels = labels(&cache.name, Component::Server);
    ConfigMap {
        metadata: child(Names(&cache.name).config(&text), &cache.namespace, labels, Some(&cache.owner)),
        data: Some([(CONFIG_FILE.to_owned(), text)].into()),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

fn server_config(cache: &ValidCache) -> ServerConfig {
    let clients = cache.certificates.as_ref();
    ServerConfig {
        cache: CacheSection {
            url: Some(cache.url.clone()),
            priority: cache.cache_info.priority,
            want_mass_query: cache.cache_info.want_mass_query,
            store_dir: cache.cache_info.store_dir.clone(),
        },
        database: DatabaseSection {
            // Of a connection, the environment has the parts.
            url_file: (!matches!(cache.database, Database::Connection { .. }))
                .then(|| format!("{DATABASE_FOLDER}/uri")),
            ca_file: cache.database_ca.as_ref().map(|_| format!("{DATABASE_CA_FOLDER}/{CA_FILE}")),
            schema: cache.schema.clone(),
            migrations: cache.migrations,
            max_connections: cache.pool.max,
            min_connections: cache.pool.min,
            acquire_timeout: cache.pool.wait,
        },
        s3: match cache.identity() {
            Some(_) => bucket(cache),
            None => S3Section {
                access_key_file: Some(format!("{S3_FOLDER}/access-key")),
                secret_key_file: Some(format!("{S3_FOLDER}/secret-key")),
                session_token_file: cache.has_session().then(|| format!("{S3_FOLDER}/{SESSION_TOKEN}")),
                ..bucket(cache)
            },
        },
        signing_key_files: vec![format!("{SIGNING_FOLDER}/{KEYS}")],
        revoked_keys_file: Some(format!("{SIGNING_FOLDER}/{REVOKED}")),
        auth: AuthSection {
            static_tokens: cache
                .tokens
                .iter()
                .map(|token| StaticToken {
                    name: token.name.clone(),
                    token_file: format!("{TOKENS_FOLDER}/{}", token.name),
                    permissions: token.permissions.clone(),
                    pins: token.pins.clone(),
                })
                .collect(),
            kubernetes: cache.audience.as_ref().map(|audience| KubernetesAuth {
                audience: audience.clone(),
                api_server: "https://kubernetes.default.svc".to_owned(),
                token_file: format!("{KUBERNETES_FOLDER}/token"),
                ca_file: format!("{KUBERNETES_FOLDER}/{CA_FILE}"),
                rules: cache.rules.clone(),
            }),
            oidc: cache.issuers.iter().map(provider).collect(),
            client_certificates: clients.map(|certificates| certificates.section.clone()),
        },
        tls: cache.tls.as_ref().map(|_| TlsSection {
            cert_file: format!("{TLS_FOLDER}/tls.crt"),
            key_file: format!("{TLS_FOLDER}/tls.key"),
            client_ca_file: clients
                .and_then(|clients| clients.ca.as_ref())
                .map(|_| format!("{CLIENT_CA_FOLDER}/{CA_FILE}")),
            client_crl_file: clients
                .and_then(|clients| clients.crl.as_ref())
                .map(|_| format!("{CLIENT_CRL_FOLDER}/{CRL_FILE}")),
        }),
        read_proxy: cache.reads != ReadProxyMode::Disabled,
        reads: ReadsSection {
            mode: (cache.reads == ReadProxyMode::Redirect).then_some(ReadMode::Redirect),
            private: cache.private,
            redirect_ttl: RedirectTtl(cache.redirect_ttl),
        },
        presign_expiry: PresignExpiry(cache.presign_expiry),
        uploads: cache.uploads.clone(),
        limits: cache.limits.clone(),
        resign: cache.resign,
        ..ServerConfig::default()
    }
}

fn provider(issuer: &Issuer) -> OidcProvider {
    let ca_file = issuer.ca.as_ref().map(|_| format!("{ISSUERS_FOLDER}/{}", issuer_file(issuer)));
    OidcProvider { ca_file, ..issuer.provider.clone() }
}

/// The file with the CAs of an issuer.
pub(super) fn issuer_file(issuer: &Issuer) -> String {
    format!("{}.crt", issuer.provider.name)
}

fn bucket(cache: &ValidCache) -> S3Section {
    match &cache.storage {
        Storage::Own { section, .. } => S3Section {
            ca_file: cache.storage_ca.as_ref().map(|_| format!("{S3_CA_FOLDER}/{CA_FILE}")),
            ..(**section).clone()
        },
        Storage::Embedded(_) => S3Section {
            endpoint: Some(format!("http://{}.{}.svc:{S3_PORT}", Names(&cache.name).s3(), cache.namespace)),
            bucket: S3_BUCKET.to_owned(),
            create_bucket: true,
            ..S3Section::default()
        },
    }
}

/// What a CI pod mounts, whole or key by key.
pub(super) fn client(cache: &ValidCache) -> ConfigMap {
    let keys = cache.public_keys.join(" ");
    let mut data: BTreeMap<String, String> = [
        ("NIKS3_SERVER_URL", cache.endpoint.clone()),
        ("nix.conf", format!("extra-substituters = {}\nextra-trusted-public-keys = {keys}\n", cache.url)),
        ("public-keys", keys),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let ca = cache.tls.as_ref().and_then(|tls| tls.ca.clone());
    data.extend(ca.map(|ca| (CA_FILE.to_owned(), ca)));
    data.extend(cache.audience.clone().map(|audience| ("audience".to_owned(), audience)));
    let labels = labels(&cache.name, Component::Client);
    ConfigMap {
        metadata: child(Names(&cache.name).client(), &cache.namespace, labels, Some(&cache.owner)),
        data: Some(data),
        ..ConfigMap::default()
    }
}
