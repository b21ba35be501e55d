//! Schema types that several kinds use, and the clean-up every generated schema gets.

use std::fmt;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What Kubernetes takes as a quantity, without a sign.
const QUANTITY: &str = r"^(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// A quantity such as `512Mi`, `10Gi` or `2`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quantity(pub String);

impl Quantity {
    /// The same in the types of the Kubernetes API.
    pub fn to_api(&self) -> ApiQuantity {
        ApiQuantity(self.0.clone())
    }
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A manifest may say `cpu: 2`, so numbers are taken too.
impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;
        impl Visitor<'_> for TextOrNumber {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 10Gi")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Quantity, E> {
                Ok(Quantity(text.to_owned()))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Quantity, E> {
                u64::try_from(number).map(|number| Quantity(number.to_string())).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(TextOrNumber).map_err(D::Error::custom)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true, "pattern": QUANTITY, "maxLength": 32 })
    }
}

/// A duration such as `720h`, `1h30m` or `90s`. There are no days: a day is `24h`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duration(pub String);

impl From<&str> for Duration {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$", "maxLength": 32 })
    }
}

/// An object whose fields the API server does not look at: spelled out, a pod template is longer than the rest.
pub(super) fn raw_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// CPU and memory of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What is set aside for the container, by resource: `cpu`, `memory`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, Quantity>,
    /// What the container may use at most, by resource: `cpu`, `memory`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, Quantity>,
}

impl Resources {
    /// The usual set: requests for both, a limit for memory, none for CPU.
    pub fn new(cpu: &str, memory: &str, memory_limit: &str) -> Self {
        Self {
            requests: [("cpu".to_owned(), cpu.into()), ("memory".to_owned(), memory.into())].into(),
            limits: [("memory".to_owned(), memory_limit.into())].into(),
        }
    }

    /// The same in the types of the Kubernetes API.
    pub fn to_api(&self) -> ResourceRequirements {
        let convert = |map: &BTreeMap<String, Quantity>| {
            (!map.is_empty())
                .then(|| map.iter().map(|(name, value)| (name.clone(), value.to_api())).collect())
        };
        ResourceRequirements {
            requests: convert(&self.requests),
            limits: convert(&self.limits),
            ..ResourceRequirements::default()
        }
    }
}

/// Removes what schemars adds and the API server has no use for: `nullable` (a null is as good as a field
/// left out) and unsigned formats.
pub(super) fn clean(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("nullable") == Some(&Value::Bool(true)) {
                map.remove("nullable");
            }
            if map.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
                map.remove("format");
            }
            map.values_mut().for_each(clean);
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        _ => {}
    }
}
