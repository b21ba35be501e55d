//! How both reconcilers write a status and publish events.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::context::Context;
use crate::crd::conditions::{Reason, truncated};
use crate::settled;

/// Writes the status, so that who else writes conditions there keeps them.
const FIELD_MANAGER: &str = "niks3-operator-status";
/// Kubernetes' limit on an event's note.
const MAX_NOTE: usize = 1024;

/// The status could not be written.
#[derive(Debug, thiserror::Error)]
#[error("could not write the status")]
pub struct ReportError(#[from] kube::Error);

/// Writes `status` of `object`. An object that is gone has none.
pub async fn write<K>(context: &Context, object: &K, status: &impl Serialize) -> Result<(), ReportError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let after = patch::<K, K>(&api, &object.name_any(), object.uid(), status).await?;
    if let Some(after) = after.filter(|after| settled::differ_in_status_alone(object.meta(), after.meta())) {
        context.settled.wrote(&settled::key_of::<K>(object.meta()), after.resource_version());
    }
    Ok(())
}

/// Writes the status of an object of the kind `K`, whose answer is read as `A`.
pub async fn patch<K, A>(
    api: &Api<A>,
    name: &str,
    uid: Option<String>,
    status: &impl Serialize,
) -> kube::Result<Option<A>>
where
    K: Resource<DynamicType = ()>,
    A: Clone + Debug + DeserializeOwned,
{
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // With its uid: an object deleted and made anew meanwhile is not this one.
        "metadata": {"name": name, "uid": uid},
        "status": status,
    });
    match api.patch_status(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(patch)).await {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(answer)) if answer.is_not_found() || answer.is_conflict() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Publishes what became of a condition: bad news, or that all is well.
pub async fn publish_condition(context: &Context, about: &ObjectReference, condition: &Condition) {
    let kind = match condition.status.as_str() {
        // `Ready` repeats what one of the others says.
        "False" if condition.type_ != "Ready" => EventType::Warning,
        "True" if condition.type_ == "Ready" => EventType::Normal,
        // Well as long as fewer pods run than may.
        "True" if condition.reason == Reason::TooFewConnections.as_str() => EventType::Warning,
        _ => return,
    };
    publish(context, about, kind, &condition.reason, &condition.message).await;
}

/// Publishes an event. That this fails is no reason to stop.
pub async fn publish(context: &Context, about: &ObjectReference, kind: EventType, reason: &str, note: &str) {
    let event = Event {
        type_: kind,
        reason: reason.to_owned(),
        note: Some(truncated(note, MAX_NOTE)),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&event, about).await {
        tracing::warn!(%error, reason, "an event could not be published");
    }
}

/// A time as a status has it.
pub fn timestamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
