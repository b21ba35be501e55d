//! CAs: where they are, and whether they are any.

use kube::ResourceExt as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::crd::binary_cache::CaSource;
use crate::crd::conditions::Reason;

use super::secrets::Resolver;
use super::{Missing, SecretFile};

/// Where a file with CAs comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaFile {
    /// A key of a ConfigMap, by their names.
    ConfigMap(String, String),
    /// A key of a Secret.
    Secret(SecretFile),
}

/// What is missing or wrong is noted; pods that run go on with what they have.
pub(super) fn resolve(source: &CaSource, field: &str, resolver: &mut Resolver<'_>) -> Option<CaFile> {
    if let Some(secret) = &source.secret_key_ref {
        let value = resolver.value(&secret.name, &secret.key).map(<[u8]>::to_vec);
        judge(value.as_deref(), field, &format!("Secret {}, key {}", secret.name, secret.key), resolver);
        return Some(CaFile::Secret(SecretFile { secret: secret.name.clone(), key: secret.key.clone() }));
    }
    let wanted = source.config_map_key_ref.as_ref()?;
    let (name, key) = (&wanted.name, &wanted.key);
    let observed = resolver.observed;
    let found = observed.config_maps.get(name);
    let value = found.and_then(|map| map.data.as_ref()?.get(key));
    // A version among those of Secrets; no Secret can have such a name.
    let known = format!("configmap/{name}");
    let version = match (found, value) {
        (Some(map), Some(_)) => map.resource_version(),
        _ => observed.secret_versions.get(&known).cloned(),
    };
    resolver.versions.extend(version.map(|version| (known, version)));
    match (found, value) {
        (None, _) => resolver.missing.push(Missing {
            reason: Reason::ConfigMapNotFound,
            message: format!("ConfigMap {name} does not exist"),
        }),
        (Some(_), None) => resolver.missing.push(Missing {
            reason: Reason::ConfigMapNotFound,
            message: format!("ConfigMap {name} has no key {key}"),
        }),
        _ => judge(value.map(String::as_bytes), field, &format!("ConfigMap {name}, key {key}"), resolver),
    }
    Some(CaFile::ConfigMap(name.clone(), key.clone()))
}

fn judge(value: Option<&[u8]>, field: &str, place: &str, resolver: &mut Resolver<'_>) {
    let Some(pem) = value else { return };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let why = match certificates {
        Ok(found) if !found.is_empty() => return,
        Ok(_) => "it holds no certificate as PEM".to_owned(),
        Err(error) => format!("it is no PEM: {error}"),
    };
    resolver.missing.push(Missing { reason: Reason::InvalidCA, message: format!("{field}: {place}: {why}") });
}
