//! CAs and revocation lists: where they are, and whether they are any.

use kube::ResourceExt as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::crd::binary_cache::CaSource;
use crate::crd::conditions::Reason;

use super::secrets::Resolver;
use super::{Missing, SecretFile};

/// Where a file with CAs or revocation lists comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaFile {
    /// A key of a ConfigMap, by their names.
    ConfigMap(String, String),
    /// A key of a Secret.
    Secret(SecretFile),
}

/// What a file is to hold.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pem {
    Cas,
    RevocationLists,
}

/// What is missing or wrong is noted; pods that run go on with what they have.
pub(super) fn resolve(
    source: &CaSource,
    what: Pem,
    field: &str,
    resolver: &mut Resolver<'_>,
) -> Option<CaFile> {
    if let Some(secret) = &source.secret_key_ref {
        let value = resolver.value(&secret.name, &secret.key).map(<[u8]>::to_vec);
        let place = format!("Secret {}, key {}", secret.name, secret.key);
        judge(value.as_deref(), what, field, &place, resolver);
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
        _ => {
            let place = format!("ConfigMap {name}, key {key}");
            judge(value.map(String::as_bytes), what, field, &place, resolver);
        }
    }
    Some(CaFile::ConfigMap(name.clone(), key.clone()))
}

fn judge(value: Option<&[u8]>, what: Pem, field: &str, place: &str, resolver: &mut Resolver<'_>) {
    let Some(pem) = value else { return };
    let (found, wanted, reason) = match what {
        Pem::Cas => (count::<CertificateDer<'_>>(pem), "certificate", Reason::InvalidCA),
        Pem::RevocationLists => {
            (count::<CertificateRevocationListDer<'_>>(pem), "revocation list", Reason::InvalidCRL)
        }
    };
    let why = match found {
        Ok(0) => format!("it holds no {wanted} as PEM"),
        Ok(_) => return,
        Err(error) => format!("it is no PEM: {error}"),
    };
    resolver.missing.push(Missing { reason, message: format!("{field}: {place}: {why}") });
}

/// How many of a kind a file holds.
fn count<T: PemObject>(pem: &[u8]) -> Result<usize, rustls::pki_types::pem::Error> {
    let mut all = T::pem_slice_iter(pem);
    all.try_fold(0, |count, one| one.map(|_| count + 1))
}
