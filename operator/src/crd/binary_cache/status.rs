//! `status` of a `BinaryCache`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::KeyStage;
use crate::crd::gc_policy::{GCMode, RunResult};

/// What the operator found.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct BinaryCacheStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where Nix reads from: the line for `substituters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The server's address inside the cluster, which clients push to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The lines for `trusted-public-keys`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public_keys: Vec<String>,
    /// The signing keys and where they are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub signing_keys: Vec<SigningKeyStatus>,
    /// When another key follows by itself: it is generated and published then. Only with `signing.rotation.interval`, and
    /// while no rotation is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key_rotation: Option<String>,
    /// How far stored narinfos are signed by the keys that sign now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resign: Option<ResignProgress>,
    /// The audience that ServiceAccount tokens must be made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_audience: Option<String>,
    /// The issuer that `ServiceAccount` tokens are taken from, as the server says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_issuer: Option<String>,
    /// The ConfigMap with what a client needs: `nix.conf` lines, the server's URL, the audience, the keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_config_map_name: Option<String>,
    /// The version of the server that answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// The newest migration of the database that was applied, as the server says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<i64>,
    /// How many pods there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How many of them are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Selects the server's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// How many objects the cache holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<i64>,
    /// Their size in bytes, uncompressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// When objects and bytes were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats_time: Option<String>,
    /// The last collection that ended, as the policy that has the cache says.
    #[serde(default, rename = "lastGC", skip_serializing_if = "Option::is_none")]
    pub last_gc: Option<LastGC>,
    /// What is in order and what is not; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// How far stored narinfos are signed again.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResignProgress {
    /// The names of the keys that each is to be signed by.
    pub keys: Vec<String>,
    /// How that stands.
    pub state: ResignState,
    /// How many there were when it began.
    pub total: i64,
    /// How many of them are done.
    pub done: i64,
    /// When that was told last: it waits five minutes, its end does not.
    pub time: String,
}

/// How signing again stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResignState {
    /// At work.
    Running,
    /// Every one is signed by these keys.
    Succeeded,
    /// It broke off, and is tried again.
    Failed,
}

/// A collection that ended. The `GCPolicy` says more of it.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastGC {
    /// The policy that had the cache collected.
    pub policy: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// How it ended.
    pub result: RunResult,
    /// Whether it collected, or only said what it would do; absent where it failed before it could tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<GCMode>,
    /// Objects deleted from the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_objects: Option<i64>,
    /// Bytes that these took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freed_bytes: Option<i64>,
}

/// A signing key.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeyStatus {
    /// Its name.
    pub name: String,
    /// What clients trust.
    pub public_key: String,
    /// The Secret that holds it.
    pub secret_name: String,
    /// What it does now.
    #[serde(default)]
    pub stage: KeyStage,
    /// Since when clients are told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<String>,
    /// Since when it signs, or signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_since: Option<String>,
    /// Since when all pods sign with it; noted where it takes over from an earlier key. The overlap counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force_since: Option<String>,
    /// Since when it signs no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_at: Option<String>,
}
