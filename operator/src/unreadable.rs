//! An object that was stored under another schema, so that this operator cannot read it. It is named in its own
//! conditions and left alone, children and all; the others go on.

use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::core::error_boundary::InvalidObject;
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::context::Context;
use crate::controllers::kind;
use crate::crd::conditions::{self, ConditionType, Finding, Reason};
use crate::status::{self, ReportError};

/// An edit of the object is seen at once.
const RESYNC: Duration = Duration::from_mins(10);

/// Says that an object of the kind `K` cannot be read, and which field is to blame. Gives back when to look again.
pub async fn report<K>(bad: &InvalidObject, context: &Context) -> Result<Duration, ReportError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
{
    let name = bad.metadata.name.clone().unwrap_or_default();
    let namespace = bad.metadata.namespace.clone().unwrap_or_default();
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &namespace, &resource);
    let Some(stored) = api.get_opt(&name).await? else { return Ok(RESYNC) };
    let Some(why) = why::<K>(&stored) else { return Ok(RESYNC) };
    let (generation, old) = (stored.metadata.generation, &stored.data["status"]);
    let before = ours(old);
    let after = next(&before, &why, generation, Timestamp::now());
    // Told at each look, or it would be taken for gone.
    context.metrics.stands(kind::<K>(), &stored.metadata, &after);
    if after == before {
        return Ok(RESYNC);
    }
    tracing::warn!(kind = %K::kind(&()), namespace, name, why, "a stored object cannot be read");
    let mut status = if old.is_object() { old.clone() } else { json!({}) };
    status["conditions"] = json!(after);
    status["observedGeneration"] = json!(generation);
    let reference = stored.object_ref(&resource);
    for condition in conditions::changed(&before, &after) {
        status::publish_condition(context, &reference, condition).await;
    }
    match status::patch::<K, DynamicObject>(&api, &name, stored.uid(), &status).await {
        // Where even that is too much for the schema, the event has said it.
        Err(kube::Error::Api(answer)) if answer.is_invalid() => Ok(RESYNC),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(RESYNC),
    }
}

/// Why an object is none of the kind `K`, beginning with the field.
fn why<K: DeserializeOwned>(stored: &DynamicObject) -> Option<String> {
    let value = serde_json::to_value(stored).ok()?;
    serde_path_to_error::deserialize::<_, K>(value).err().map(|error| error.to_string())
}

/// The conditions that the operator wrote.
fn ours(status: &Value) -> Vec<Condition> {
    let all = status["conditions"].as_array().into_iter().flatten();
    let known = all.filter_map(|condition| serde_json::from_value::<Condition>(condition.clone()).ok());
    known.filter(|condition| ConditionType::is_ours(&condition.type_)).collect()
}

/// What was found about the last spec that could be read stays beside it.
fn next(old: &[Condition], why: &str, generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let message = format!(
        "this version of the operator cannot read the object and leaves it and its children alone: {why}"
    );
    let findings = [ConditionType::Accepted, ConditionType::Ready]
        .map(|about| Finding::no(about, Reason::InvalidSpec, message.clone()));
    let new = conditions::next(old, &findings, generation, now);
    let told = |condition: &&Condition| !new.iter().any(|other| other.type_ == condition.type_);
    let mut all: Vec<Condition> = old.iter().filter(told).cloned().collect();
    all.extend(new);
    all.sort_by(|a, b| a.type_.cmp(&b.type_));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::BinaryCache;

    #[test]
    fn the_field_to_blame_is_named() {
        let stored: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "niks3.dev/v1alpha1", "kind": "BinaryCache", "metadata": {"name": "main"},
            "spec": {"storage": {"embedded": {}}, "database": {"embedded": {}}, "suspend": "Later"}
        }))
        .unwrap();
        let why = why::<BinaryCache>(&stored).unwrap();
        assert!(why.starts_with("spec.suspend: unknown variant `Later`"), "{why}");
    }

    #[test]
    fn it_is_said_once_and_beside_what_was_known() {
        let now = Timestamp::UNIX_EPOCH;
        let known = conditions::next(
            &[],
            &[Finding::yes(ConditionType::StorageReady, Reason::Reachable, "reached")],
            Some(1),
            now,
        );
        let first = next(&known, "spec: bad", Some(2), now);
        let types: Vec<&str> = first.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(types, ["Accepted", "Ready", "StorageReady"]);
        assert_eq!(first[2], known[0]);
        assert_eq!(next(&first, "spec: bad", Some(2), Timestamp::now()), first);
    }
}
