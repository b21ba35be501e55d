//! What a cache signs with.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt as _;
use niks3_protocol::nix::SecretKey;

use crate::cache::observe::Observed;
use crate::crd::BinaryCacheSpec;
use crate::crd::conditions::Reason;
use crate::labels::Names;

use super::secrets::{Generated, Resolver, SecretFile};
use super::{Invalid, retains_keys};

/// The key of a generated Secret that holds the signing key.
const SECRET_KEY: &str = "secret";

/// What a cache signs with.
#[derive(Debug)]
pub struct Signing {
    /// The name of the key's file.
    pub file_name: String,
    /// Where it is.
    pub secret: SecretFile,
    /// The Secret, where the operator makes it.
    pub generated: Option<Generated>,
    /// Whether the Secret outlives the cache.
    pub retain: bool,
    /// The Secret's version and owners as they are, where the operator made it before.
    pub owners: Option<(String, Vec<OwnerReference>)>,
    /// The key, or why there is none.
    pub key: Result<SecretKey, (Reason, String)>,
}

impl Signing {
    pub(super) fn of(
        spec: &BinaryCacheSpec,
        url: &str,
        resolver: &mut Resolver<'_>,
    ) -> Result<Self, Invalid> {
        let named = spec.signing.keys.first();
        let file_name = named.map_or_else(|| default_name(url), |key| key.name.clone());
        let retain = retains_keys(spec);
        if let Some(brought) = named.and_then(|key| key.secret_key_ref.as_ref()) {
            let value = resolver.value(&brought.name, &brought.key);
            let secret = SecretFile { secret: brought.name.clone(), key: brought.key.clone() };
            let key = parse(value, &secret, Some(&file_name));
            return Ok(Self { file_name, secret, generated: None, retain, owners: None, key });
        }
        let name = Names(resolver.cache).signing();
        let generated = resolver.generated(&name)?;
        let secret = SecretFile { secret: name, key: SECRET_KEY.to_owned() };
        let key = if let Some(fresh) = &generated.make {
            SecretKey::from_seed(&file_name, fresh.signing_seed)
                .map_err(|error| (Reason::InvalidKey, format!("{file_name} {error}")))
        } else {
            let found = resolver.observed.secrets.get(&secret.secret);
            let value = found.and_then(|found| found.data.as_ref()?.get(&secret.key));
            let value = value.map(|value| value.0.as_slice());
            // The name of an unnamed key was made from the URL of its day, and stays.
            parse(value, &secret, named.map(|key| key.name.as_str()))
        };
        let owners = owners(resolver.observed, &secret.secret);
        Ok(Self { file_name, secret, generated: Some(generated), retain, owners, key })
    }

    /// What clients trust.
    pub fn public_key(&self) -> Option<String> {
        self.key.as_ref().ok().map(|key| key.public_key().to_string())
    }
}

fn owners(observed: &Observed, secret: &str) -> Option<(String, Vec<OwnerReference>)> {
    let found = observed.secrets.get(secret)?;
    Some((found.resource_version()?, found.owner_references().to_vec()))
}

fn parse(value: Option<&[u8]>, at: &SecretFile, name: Option<&str>) -> Result<SecretKey, (Reason, String)> {
    let place = format!("key {} of Secret {}", at.key, at.secret);
    let value = value.ok_or_else(|| (Reason::NoActiveKey, format!("{place} is missing")))?;
    let text =
        std::str::from_utf8(value).map_err(|_| (Reason::InvalidKey, format!("{place} is not text")))?;
    let key: SecretKey = text.parse().map_err(|error| (Reason::InvalidKey, format!("{place} {error}")))?;
    match name {
        Some(name) if key.name() != name => {
            let message = format!("{place} is named {}, but the spec calls it {name}", key.name());
            Err((Reason::KeyNameMismatch, message))
        }
        _ => Ok(key),
    }
}

/// `HOST-1` of a URL.
fn default_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6).replace(':', "-"),
        None => host.split(':').next().unwrap_or(host).to_owned(),
    };
    format!("{host}-1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_name_is_that_of_the_host() {
        for (url, name) in [
            ("https://cache.example.org", "cache.example.org-1"),
            ("http://main.nix.svc:8080/a", "main.nix.svc-1"),
            ("https://user@cache.example.org?x", "cache.example.org-1"),
            ("http://[fd00::1]:80", "fd00--1-1"),
        ] {
            assert_eq!(default_name(url), name);
        }
    }

    #[test]
    fn a_key_is_what_its_secret_says() {
        let at = SecretFile { secret: "s".to_owned(), key: "k".to_owned() };
        let text = SecretKey::from_seed("a-1", [7; 32]).unwrap().to_secret_text();
        assert!(parse(Some(text.as_bytes()), &at, Some("a-1")).is_ok());
        let reason = |value: Option<&[u8]>, name| parse(value, &at, name).unwrap_err().0;
        assert_eq!(reason(Some(text.as_bytes()), Some("b-1")), Reason::KeyNameMismatch);
        assert_eq!(reason(Some(b"nonsense"), None), Reason::InvalidKey);
        assert_eq!(reason(Some(&[0xff]), None), Reason::InvalidKey);
        assert_eq!(reason(None, None), Reason::NoActiveKey);
    }
}
