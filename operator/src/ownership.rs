//! Whose an object is that has the name of a child. What somebody else made is not the operator's to write: it would go
//! with the cache.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{ListParams, ObjectMeta};
use kube::core::Status;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::apply::ApplyError;
use crate::crd::conditions::Reason;
use crate::labels::{MANAGED_BY, OPERATOR, cache_of, is_child_of};

/// Whether a child may be written that is not known as one: there is none of its name, or it is this owner's all the
/// same. `create` would ask that and write at once; but a server-side apply after it would share the fields with it, and
/// never take one away again. Listing by the name is a right that the operator has for each kind.
pub async fn check<K>(client: &Client, namespace: &str, wanted: &K) -> Result<(), ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let name = wanted.name_any();
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    // What the API server has in memory is fresh enough: it waits for etcd otherwise, a dozen times for each new cache.
    let of_name = ListParams::default().fields(&format!("metadata.name={name}")).match_any();
    let list = api.list_metadata(&of_name).await;
    let list = list.map_err(|source| ApplyError::new::<K>("look for", &name, source))?;
    match list.items.first() {
        Some(found) if !is_ours(wanted.meta(), &found.metadata) => {
            let why = "one of this name is there that is not this object's, and is left alone; delete or rename it, or \
                       make this one anew under another name";
            let status = Status::failure(why, Reason::NameTaken.as_str()).with_code(409).boxed();
            Err(ApplyError::new::<K>("apply", &name, kube::Error::Api(status)))
        }
        _ => Ok(()),
    }
}

fn is_ours(wanted: &ObjectMeta, found: &ObjectMeta) -> bool {
    let Some(owner) = wanted.owner_references.iter().flatten().next() else { return false };
    if is_child_of(found, &owner.uid) {
        return true;
    }
    // Out of a backup: without an owner, or with one of before, which had the name that one has at a time.
    let (wanted, labels) =
        (wanted.labels.clone().unwrap_or_default(), found.labels.clone().unwrap_or_default());
    let made =
        labels.get(MANAGED_BY).is_some_and(|by| by == OPERATOR) && cache_of(&labels) == cache_of(&wanted);
    let mut owners = found.owner_references.iter().flatten();
    let controller = owners.find(|owner| owner.controller == Some(true));
    made && controller.is_none_or(|other| (&other.kind, &other.name) == (&owner.kind, &owner.name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_restored_is_ours_and_what_others_have_is_not() {
        let meta = |labels: &Value, owners: &Value| -> ObjectMeta {
            serde_json::from_value(json!({"name": "a", "labels": labels, "ownerReferences": owners})).unwrap()
        };
        let owner = |kind: &str, name: &str, uid: &str| json!([{"apiVersion": "niks3.dev/v1alpha1", "kind": kind, "name": name, "uid": uid, "controller": true}]);
        let labels = |cache: &str| json!({MANAGED_BY: OPERATOR, "app.kubernetes.io/instance": cache});
        let wanted = meta(&labels("a"), &owner("BinaryCache", "a", "1"));
        for (found, ours) in [
            (meta(&json!({}), &owner("BinaryCache", "a", "1")), true),
            (meta(&labels("a"), &json!([])), true),
            (meta(&labels("a"), &owner("BinaryCache", "a", "of before")), true),
            (meta(&labels("a"), &owner("BinaryCache", "b", "2")), false),
            (meta(&labels("a"), &owner("GCPolicy", "a", "2")), false),
            (meta(&labels("b"), &json!([])), false),
            (meta(&json!({}), &json!([])), false),
            (meta(&json!({}), &owner("BinaryCache", "a", "of before")), false),
        ] {
            assert_eq!(is_ours(&wanted, &found), ours, "{found:?}");
        }
    }
}
