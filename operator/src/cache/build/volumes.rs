//! The files of the server's pods.

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapProjection, ConfigMapVolumeSource, KeyToPath, ProjectedVolumeSource,
    SecretProjection, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use kube::ResourceExt as _;

use crate::cache::validate::{CaFile, Database, KEYS, REVOKED, S3Access, SecretFile, Storage, ValidCache};
use crate::labels::{CA_FILE, CRL_FILE, Names};

use super::config_map::{
    CLIENT_CA_FOLDER, CLIENT_CRL_FOLDER, CONFIG_FOLDER, DATABASE_CA_FOLDER, DATABASE_FOLDER, ISSUERS_FOLDER,
    KUBERNETES_FOLDER, S3_CA_FOLDER, S3_FOLDER, SESSION_TOKEN, SIGNING_FOLDER, TLS_FOLDER, TOKENS_FOLDER,
    issuer_file,
};
use super::pod::{SECRET_MODE, empty_dir, file_volume, mount, read_only, secret_volume};
use super::secrets;

/// The kubelet renews the token long before.
const TOKEN_SECONDS: i64 = 3600;

pub(super) fn volumes(cache: &ValidCache, config: &ConfigMap) -> (Vec<Volume>, Vec<VolumeMount>) {
    let config = Volume {
        name: "config".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config.name_any(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    let database = match &cache.database {
        Database::Own(file) => Some(file_volume("database", file, "uri")),
        Database::Connection { .. } => None,
        Database::Embedded(server) => {
            Some(secret_volume("database", &server.credentials.used().name, &[(secrets::URI, "uri")]))
        }
    };
    let s3 = match &cache.storage {
        Storage::Own { access: S3Access::Keys { access_key, secret_key, session_token }, .. } => {
            let keys = [(access_key.key.as_str(), "access-key"), (&secret_key.key, "secret-key")];
            let token = session_token.as_ref().map(|token| (token.key.as_str(), SESSION_TOKEN));
            let all: Vec<_> = keys.into_iter().chain(token).collect();
            Some(secret_volume("s3", &access_key.secret, &all))
        }
        Storage::Own { access: S3Access::Identity(_), .. } => None,
        Storage::Embedded(server) => Some(secret_volume(
            "s3",
            &server.credentials.used().name,
            &[(secrets::ACCESS_KEY, "access-key"), (secrets::SECRET_KEY, "secret-key")],
        )),
    };
    let mut volumes = vec![empty_dir("tmp"), config];
    let mut mounts = vec![mount("tmp", "/tmp"), read_only("config", CONFIG_FOLDER)];
    let mut add = |volume: Option<Volume>, folder: &str| {
        if let Some(volume) = volume {
            mounts.push(read_only(&volume.name, folder));
            volumes.push(volume);
        }
    };
    add(database, DATABASE_FOLDER);
    add(s3, S3_FOLDER);
    add(cache.storage_ca.as_ref().map(|file| ca("s3-ca", file)), S3_CA_FOLDER);
    add(cache.database_ca.as_ref().map(|file| ca("database-ca", file)), DATABASE_CA_FOLDER);
    let tls = cache.tls.as_ref();
    let tls_files = [("tls.crt", "tls.crt"), ("tls.key", "tls.key")];
    add(tls.map(|tls| secret_volume("tls", &tls.secret, &tls_files)), TLS_FOLDER);
    let clients = cache.certificates.as_ref();
    let cas = clients.and_then(|certificates| certificates.ca.as_ref());
    add(cas.map(|file| ca("client-ca", file)), CLIENT_CA_FOLDER);
    let lists = clients.and_then(|certificates| certificates.crl.as_ref());
    add(lists.map(|file| pem("client-crl", file, CRL_FILE)), CLIENT_CRL_FOLDER);
    add(issuers(cache), ISSUERS_FOLDER);
    add(Some(signing(cache)), SIGNING_FOLDER);
    add((!cache.tokens.is_empty()).then(|| tokens(cache)), TOKENS_FOLDER);
    add(cache.audience.is_some().then(kubernetes), KUBERNETES_FOLDER);
    (volumes, mounts)
}

/// One file with CAs.
fn ca(volume: &str, from: &CaFile) -> Volume {
    pem(volume, from, CA_FILE)
}

fn pem(volume: &str, from: &CaFile, path: &str) -> Volume {
    let (name, key) = match from {
        CaFile::Secret(file) => return file_volume(volume, file, path),
        CaFile::ConfigMap(name, key) => (name, key),
    };
    Volume {
        name: volume.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: name.clone(),
            items: Some(vec![KeyToPath { key: key.clone(), path: path.to_owned(), mode: None }]),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// The CAs of issuers that have some of their own, in one folder.
fn issuers(cache: &ValidCache) -> Option<Volume> {
    let sources = cache.issuers.iter().filter_map(|issuer| {
        let (file, path) = (issuer.ca.as_ref()?, issuer_file(issuer));
        Some(match file {
            CaFile::Secret(from) => secret_source(from, &path),
            CaFile::ConfigMap(name, key) => VolumeProjection {
                config_map: Some(ConfigMapProjection {
                    name: name.clone(),
                    items: Some(vec![KeyToPath { key: key.clone(), path, mode: None }]),
                    optional: None,
                }),
                ..VolumeProjection::default()
            },
        })
    });
    let sources: Vec<_> = sources.collect();
    (!sources.is_empty()).then(|| projected("issuers", sources))
}

/// The keys that sign and those that are revoked: the same volume whatever they are.
fn signing(cache: &ValidCache) -> Volume {
    secret_volume("signing", &Names(&cache.name).key_set(), &[(KEYS, KEYS), (REVOKED, REVOKED)])
}

/// The shared secrets.
fn tokens(cache: &ValidCache) -> Volume {
    let tokens: Vec<_> = cache.tokens.iter().map(|token| (token.name.as_str(), &token.secret)).collect();
    files("tokens", &tokens)
}

/// Files, each from a Secret of its own, in one folder.
pub(super) fn files(volume: &str, files: &[(&str, &SecretFile)]) -> Volume {
    projected(volume, files.iter().map(|(name, from)| secret_source(from, name)).collect())
}

fn secret_source(from: &SecretFile, path: &str) -> VolumeProjection {
    VolumeProjection {
        secret: Some(SecretProjection {
            name: from.secret.clone(),
            items: Some(vec![KeyToPath { key: from.key.clone(), path: path.to_owned(), mode: None }]),
            optional: None,
        }),
        ..VolumeProjection::default()
    }
}

/// With this the server asks the API server for the keys that ServiceAccount tokens are signed with.
fn kubernetes() -> Volume {
    let token = VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            path: "token".to_owned(),
            expiration_seconds: Some(TOKEN_SECONDS),
            audience: None,
        }),
        ..VolumeProjection::default()
    };
    let ca = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: "kube-root-ca.crt".to_owned(),
            items: Some(vec![KeyToPath { key: CA_FILE.to_owned(), path: CA_FILE.to_owned(), mode: None }]),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    projected("kubernetes", vec![token, ca])
}

fn projected(name: &str, sources: Vec<VolumeProjection>) -> Volume {
    Volume {
        name: name.to_owned(),
        projected: Some(ProjectedVolumeSource { sources: Some(sources), default_mode: Some(SECRET_MODE) }),
        ..Volume::default()
    }
}
