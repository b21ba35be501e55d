//! What a Secret says of a signing key.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use niks3_protocol::nix::SecretKey;

use crate::cache::observe::Observed;
use crate::crd::conditions::Reason;
use crate::labels::Names;

use super::key::Found;
use super::rotation::{Clock, Clocks};
use super::secrets::SecretFile;

pub(super) fn found(observed: &Observed, secret: &str, cache: &str) -> Option<Found> {
    let found = observed.secrets.get(secret)?;
    Some(Found {
        version: found.resource_version()?,
        owners: found.owner_references().to_vec(),
        clocks: clocks(found, cache),
    })
}

/// What cannot be read is as good as nothing: the status knows it too.
pub(super) fn clocks(secret: &Secret, cache: &str) -> Clocks {
    let text = secret.annotations().get(&Names(cache).signing_clock());
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The same of one key.
pub(super) fn clock_of(secret: &Secret, cache: &str, key: &str) -> Clock {
    clocks(secret, cache).remove(key).unwrap_or_default()
}

/// Whether a key in one of these waits for clients to learn of it.
pub fn any_waits<'a>(cache: &str, mut secrets: impl Iterator<Item = &'a Secret>) -> bool {
    secrets.any(|secret| clocks(secret, cache).values().any(Clock::waits))
}

pub(super) fn parse(
    value: Option<&[u8]>,
    at: &SecretFile,
    name: Option<&str>,
) -> Result<SecretKey, (Reason, String)> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
