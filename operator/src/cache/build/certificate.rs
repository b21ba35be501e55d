//! What cert-manager is asked for.

use crate::cache::validate::ValidCache;
use crate::foreign::Certificate;
use crate::labels::{Component, Names, child, labels};

pub(super) fn server(cache: &ValidCache) -> Option<Certificate> {
    let spec = cache.tls.as_ref()?.certificate.clone()?;
    let labels = labels(&cache.name, Component::Server);
    let metadata = child(Names(&cache.name).server(), &cache.namespace, labels, Some(&cache.owner));
    Some(Certificate::new(metadata, spec))
}
