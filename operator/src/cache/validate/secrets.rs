//! Secrets: those the spec names and those the operator makes once.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;

use crate::cache::observe::{Fresh, Observed};
use crate::crd::conditions::Reason;
use crate::labels::{self, GENERATED_ID};

use super::Invalid;

/// A key of a Secret, mounted as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// The Secret.
    pub secret: String,
    /// The key.
    pub key: String,
}

/// Something the spec refers to and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// For the condition.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}

/// A Secret the operator makes once and never changes.
#[derive(Debug, Clone)]
pub struct Generated {
    /// Its name.
    pub name: String,
    /// Which generation it is.
    pub id: String,
    /// What to make it from, where it does not exist.
    pub make: Option<Fresh>,
}

/// Looks Secrets up and notes what is missing and what the pods read.
pub(super) struct Resolver<'a> {
    pub(super) cache: &'a str,
    pub(super) observed: &'a Observed,
    pub(super) versions: BTreeMap<String, String>,
    pub(super) missing: Vec<Missing>,
    absent: BTreeSet<String>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(cache: &'a str, observed: &'a Observed) -> Self {
        Self { cache, observed, versions: BTreeMap::new(), missing: Vec::new(), absent: BTreeSet::new() }
    }

    /// A key of a Secret that the user brings.
    pub(super) fn file(&mut self, secret: &str, key: &str) -> SecretFile {
        self.value(secret, key);
        SecretFile { secret: secret.to_owned(), key: key.to_owned() }
    }

    /// The same, and what it holds.
    pub(super) fn value(&mut self, secret: &str, key: &str) -> Option<&'a [u8]> {
        let observed = self.observed;
        let found = observed.secrets.get(secret);
        let value = found.and_then(|found| found.data.as_ref()?.get(key));
        let version = match (found, value) {
            (Some(found), Some(_)) => found.resource_version(),
            // Whoever runs goes on with what it has.
            _ => observed.secret_versions.get(secret).cloned(),
        };
        if let Some(version) = version {
            self.versions.insert(secret.to_owned(), version);
        }
        match (found, value) {
            (None, _) if self.absent.insert(secret.to_owned()) => self.missing.push(Missing {
                reason: Reason::SecretNotFound,
                message: format!("Secret {secret} does not exist"),
            }),
            (Some(_), None) => self.missing.push(Missing {
                reason: Reason::SecretKeyMissing,
                message: format!("Secret {secret} has no key {key}"),
            }),
            _ => {}
        }
        value.map(|value| value.0.as_slice())
    }

    /// A Secret that the operator makes, or made for this cache or one of its name before.
    pub(super) fn generated(&mut self, name: &str) -> Result<Generated, Invalid> {
        let Some(found) = self.observed.secrets.get(name) else {
            let fresh = self.observed.fresh.clone();
            return Ok(Generated { name: name.to_owned(), id: fresh.id.clone(), make: Some(fresh) });
        };
        ours(found, name, self.cache)?;
        let id = found.annotations().get(GENERATED_ID).cloned().unwrap_or_default();
        Ok(Generated { name: name.to_owned(), id, make: None })
    }

    /// The pods read it.
    pub(super) fn note(&mut self, generated: &Generated) {
        self.versions.insert(generated.name.clone(), generated.id.clone());
    }
}

/// Whether a Secret that the operator makes is its own, and not in the way.
pub(super) fn ours(found: &Secret, name: &str, cache: &str) -> Result<(), Invalid> {
    if labels::is_ours(found, cache) {
        return Ok(());
    }
    let message = format!("Secret {name} is in the way: the operator did not make it; delete or rename it");
    Err(Invalid { reason: Reason::InvalidSpec, message })
}
