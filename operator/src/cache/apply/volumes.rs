//! The volumes of embedded servers grow with the spec. Their claims are asked to: the template that a StatefulSet made
//! them from cannot be changed, and stays as it was.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use niks3_protocol::api::gc::policy::ByteSize;
use serde_json::json;

use crate::apply::{ApplyError, refusal};
use crate::cache::validate::{Database, Embedded, Storage, ValidCache};
use crate::crd::conditions::Reason;
use crate::labels::Names;

const STORAGE: &str = "storage";

/// The volume of an embedded server.
#[derive(Debug, PartialEq, Eq)]
pub struct Volume {
    /// The server, as people call it.
    pub server: &'static str,
    /// The field of the spec that says its size.
    pub field: &'static str,
    /// Its claim.
    pub claim: String,
    /// What the spec asks for.
    pub wanted: String,
    /// What the claim asks for.
    pub asked: String,
    /// How it stands.
    pub standing: Standing,
}

/// How a volume stands to the spec.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is as large.
    Fits,
    /// It grows; what it has, and what whoever carries that out says.
    Grows(String, Vec<String>),
    /// The API server does not let it grow: why.
    Refused(Reason, String),
    /// It is larger, and volumes do not shrink.
    Larger,
}

/// Asks claims that are smaller than the spec says for more. Of servers whose claim is not there yet, nothing is said.
pub(super) async fn grow(client: &Client, cache: &ValidCache) -> Result<Vec<Volume>, ApplyError> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &cache.namespace);
    let mut volumes = Vec::new();
    for (server, field, base, embedded) in servers(cache) {
        let name = format!("data-{base}-0");
        let read = |source| ApplyError::new::<PersistentVolumeClaim>("read", &name, source);
        let claim = api.get_opt(&name).await.map_err(read)?;
        let Some(claim) = claim.filter(|claim| claim.metadata.deletion_timestamp.is_none()) else { continue };
        let asked = asked(&claim);
        let standing = if is_smaller(&asked, &embedded.size) {
            let size = json!({"spec": {"resources": {"requests": {STORAGE: embedded.size}}}});
            match Box::pin(api.patch(&name, &PatchParams::default(), &Patch::Merge(size))).await {
                Ok(claim) => {
                    tracing::info!(claim = name, from = asked, to = embedded.size, "a volume is to grow");
                    standing(&claim, &embedded.size)
                }
                Err(kube::Error::Api(answer)) if (400..500).contains(&answer.code) => {
                    let reason = refusal(&answer.message).unwrap_or(Reason::ResizeRefused);
                    Standing::Refused(reason, answer.message)
                }
                Err(source) => {
                    return Err(ApplyError::new::<PersistentVolumeClaim>("grow", &name, source));
                }
            }
        } else {
            standing(&claim, &embedded.size)
        };
        volumes.push(Volume { server, field, claim: name, wanted: embedded.size.clone(), asked, standing });
    }
    Ok(volumes)
}

fn servers(cache: &ValidCache) -> impl Iterator<Item = (&'static str, &'static str, String, &Embedded)> {
    let names = Names(&cache.name);
    let storage = match &cache.storage {
        Storage::Embedded(server) => Some(("S3", "storage.embedded.size", names.s3(), &**server)),
        Storage::Own { .. } => None,
    };
    let database = match &cache.database {
        Database::Embedded(server) => {
            Some(("PostgreSQL", "database.embedded.size", names.postgres(), &**server))
        }
        Database::Own(_) | Database::Connection { .. } => None,
    };
    storage.into_iter().chain(database)
}

fn asked(claim: &PersistentVolumeClaim) -> String {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let size = resources.and_then(|resources| resources.requests.as_ref()?.get(STORAGE));
    size.map(|size| size.0.clone()).unwrap_or_default()
}

/// Nothing where one is in a notation that only the API server reads.
fn is_less(small: &str, large: &str) -> Option<bool> {
    let [small, large] = [small, large].map(|size| size.parse::<ByteSize>().ok());
    Some(small? < large?)
}

/// Of what cannot be read here, it is for the API server to say.
fn is_smaller(asked: &str, wanted: &str) -> bool {
    is_less(asked, wanted).unwrap_or(asked != wanted)
}

fn standing(claim: &PersistentVolumeClaim, wanted: &str) -> Standing {
    let asked = asked(claim);
    if is_less(wanted, &asked) == Some(true) {
        return Standing::Larger;
    }
    let status = claim.status.as_ref();
    let has = status.and_then(|status| status.capacity.as_ref()?.get(STORAGE));
    match has {
        // What is not bound has nothing yet, and will have what it asks for.
        Some(has) if is_less(&has.0, &asked) == Some(true) => {
            let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
            let said = conditions.map(|condition| {
                let message = condition.message.as_deref().unwrap_or_default();
                format!("{} {message}", condition.type_).trim().to_owned()
            });
            Standing::Grows(has.0.clone(), said.collect())
        }
        _ => Standing::Fits,
    }
}

/// What a claim asks for.
pub(super) fn request(claim: &mut PersistentVolumeClaim) -> Option<&mut BTreeMap<String, Quantity>> {
    claim.spec.as_mut()?.resources.as_mut()?.requests.as_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(asked: &str, has: &str) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "spec": {"resources": {"requests": {"storage": asked}}},
            "status": {"capacity": {"storage": has},
                "conditions": [{"type": "FileSystemResizePending", "status": "True", "message": "waits for a pod"}]}
        }))
        .unwrap()
    }

    #[test]
    fn sizes_are_compared_by_what_they_mean() {
        assert!(is_smaller("10Gi", "20Gi") && is_smaller("1Gi", "1025Mi"));
        assert!(!is_smaller("1Gi", "1024Mi") && !is_smaller("20Gi", "10Gi"));
        assert!(is_smaller("10Gi", "2e10"), "the API server reads that");
        assert_eq!(standing(&claim("1Gi", "1Gi"), "1024Mi"), Standing::Fits);
        assert_eq!(standing(&claim("1Gi", "2Gi"), "1Gi"), Standing::Fits, "clouds round up");
        assert_eq!(standing(&claim("20Gi", "20Gi"), "10Gi"), Standing::Larger);
        let said = vec!["FileSystemResizePending waits for a pod".to_owned()];
        assert_eq!(standing(&claim("2Gi", "1Gi"), "2Gi"), Standing::Grows("1Gi".to_owned(), said));
    }
}
