//! Pure: what the pods sign with, as the content of one Secret: where it changes, the kubelet changes the files of pods
//! that run, all of them at once.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use niks3_protocol::api::health::KeysInForce;
use niks3_protocol::nix::SecretKey;

use crate::crd::binary_cache::KeyStage;
use crate::labels::{KEYS_CHANGED, Names};

use super::Invalid;
use super::key::Key;
use super::secrets::{Resolver, ours};

/// The keys of the Secret: secret keys, and revoked public ones, one a line.
pub const KEYS: &str = "keys";
/// The same.
pub const REVOKED: &str = "revoked";

/// What the pods sign with.
#[derive(Debug)]
pub struct KeySet {
    /// What the Secret is to hold; nothing where a key that signs is known to nobody: it stays as it is, and where there
    /// is none pods wait for it rather than sign with less.
    pub wanted: Option<Files>,
    /// What the pods are to say once they have it.
    pub public: KeysInForce,
    /// The Secret as it is.
    pub found: Option<FoundSet>,
    /// Since when it holds what it is to hold.
    pub changed_at: Timestamp,
}

/// The files.
#[derive(Clone, PartialEq, Eq)]
pub struct Files {
    /// Those that sign.
    pub keys: String,
    /// Those that are revoked.
    pub revoked: String,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Files(..)")
    }
}

/// The Secret as it is.
#[derive(Debug)]
pub struct FoundSet {
    /// Its version.
    pub version: String,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
    /// What it holds.
    pub files: Files,
}

impl KeySet {
    pub(super) fn of(keys: &[Key], resolver: &Resolver<'_>) -> Result<Self, Invalid> {
        let name = Names(resolver.cache).key_set();
        let secret = resolver.observed.secrets.get(&name);
        secret.map(|secret| ours(secret, &name, resolver.cache)).transpose()?;
        let found = secret.and_then(found);
        let known: Vec<SecretKey> = found.iter().flat_map(|found| held(&found.files.keys)).collect();
        let signing = keys.iter().filter(|key| key.stage == KeyStage::Sign).map(|key| {
            // Of a key whose Secret is away, or holds something else, the pods keep what they have.
            let before = || known.iter().find(|known| known.name() == key.name);
            key.material.as_ref().ok().or_else(before).cloned()
        });
        let signing: Option<Vec<SecretKey>> = signing.collect();
        let revoked = keys.iter().filter(|key| key.stage == KeyStage::Revoke);
        let revoked: Vec<String> = revoked.filter_map(|key| key.public_key.clone()).collect();
        let mut public = KeysInForce {
            keys: signing.iter().flatten().map(|key| key.public_key().to_string()).collect(),
            revoked: revoked.clone(),
        };
        public.keys.sort_unstable();
        public.revoked.sort_unstable();
        let lines = |all: &mut dyn Iterator<Item = String>| all.map(|line| line + "\n").collect::<String>();
        let wanted = signing.map(|keys| Files {
            keys: lines(&mut keys.iter().map(SecretKey::to_secret_text)),
            revoked: lines(&mut revoked.into_iter()),
        });
        let same = wanted.is_some() && found.as_ref().map(|found| &found.files) == wanted.as_ref();
        let noted = secret.and_then(|secret| secret.annotations().get(KEYS_CHANGED)?.parse().ok());
        let changed_at = noted.filter(|_| same).unwrap_or(resolver.observed.now);
        Ok(Self { wanted, public, found, changed_at })
    }

    /// Whether the Secret does not hold yet what it is to hold.
    pub fn is_new(&self) -> bool {
        self.wanted.is_some() && self.found.as_ref().map(|found| &found.files) != self.wanted.as_ref()
    }
}

fn found(secret: &Secret) -> Option<FoundSet> {
    let text = |key: &str| {
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        value.map(|value| String::from_utf8_lossy(&value.0).into_owned()).unwrap_or_default()
    };
    Some(FoundSet {
        version: secret.resource_version()?,
        owners: secret.owner_references().to_vec(),
        files: Files { keys: text(KEYS), revoked: text(REVOKED) },
    })
}

fn held(text: &str) -> Vec<SecretKey> {
    text.lines().filter_map(|line| line.parse().ok()).collect()
}
