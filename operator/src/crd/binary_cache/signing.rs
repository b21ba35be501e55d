//! `spec.signing`: with which keys store paths are signed, and how one key follows another.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretKeyRef;
use crate::crd::schema::Duration;

/// With which keys store paths are signed.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[x_kube(validation = Rule::new("size(self.keys) == 0 || self.keys.exists(k, k.stage in ['Auto', 'Sign'])")
    .message("signing.keys: one key must be Auto or Sign, or nothing would be signed").field_path(".keys").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new(
    "oldSelf.keys.all(o, o.stage in ['Retire', 'Revoke'] || self.keys.exists(n, n.name == o.name)) && (size(oldSelf.keys) == 0 || size(self.keys) > 0)"
).message("signing.keys: only keys whose stage is Retire or Revoke can be removed, and not all; set the stage first")
 .field_path(".keys").reason(Reason::FieldValueForbidden))]
#[serde(rename_all = "camelCase")]
pub struct Signing {
    /// The keys, each followed by its successor. An empty list stands for one generated key named `HOST-1`, HOST
    /// being that of the cache's URL; to let another key follow it, list both, or set `rotation.interval`. The Secrets of
    /// generated keys are named in `status.signingKeys`.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub keys: Vec<SigningKey>,
    /// How a key follows another one.
    #[serde(default)]
    pub rotation: Rotation,
}

/// A signing key.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new(
    "has(self.secretKeyRef) == has(oldSelf.secretKeyRef) && (!has(self.secretKeyRef) || self.secretKeyRef == oldSelf.secretKeyRef)"
).message("secretKeyRef: where a key comes from cannot be changed").reason(Reason::FieldValueForbidden))]
#[x_kube(validation = Rule::new("oldSelf.stage != 'Revoke' || self.stage == 'Revoke'")
    .message("stage: Revoke cannot be undone").field_path(".stage").reason(Reason::FieldValueForbidden))]
#[serde(rename_all = "camelCase")]
pub struct SigningKey {
    /// The key's name, the part before the colon in `trusted-public-keys`, such as `cache.example.org-1`.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub name: String,

    /// A key brought along: the Secret's key holds `name:base64`, as `nix key generate-secret` prints it. Left
    /// out, the key is generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,

    /// What the key does. `Auto`: the first key signs, a later one is published, signs after
    /// `rotation.publishBeforeSign`, and retires those before it after `rotation.overlap`. The others hold it at
    /// one stage.
    #[serde(default)]
    pub stage: KeyStage,
}

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum KeyStage {
    /// As the clock says.
    #[default]
    Auto,
    /// Clients are told to trust it; it signs nothing.
    Publish,
    /// It signs.
    Sign,
    /// It signs nothing any more; clients still trust what it signed.
    Retire,
    /// Clients are no longer told of it. It cannot be undone.
    Revoke,
}

/// How a key follows another one. The times count from what stands in the annotation of the keys' Secrets.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("duration(self.publishBeforeSign) >= duration('0s') && duration(self.overlap) >= duration('1h')")
    .message("rotation: publishBeforeSign must be a duration, and overlap one of at least 1h").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new(
    "!has(self.interval) || duration(self.interval) >= duration(self.publishBeforeSign) + duration(self.overlap)"
).message("rotation.interval: at least publishBeforeSign and overlap together, or a key would be followed before it signs alone")
 .field_path(".interval").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new("!has(self.interval) || (self.promotion == 'Automatic' && self.resign == 'Background')")
    .message("rotation.interval: needs promotion Automatic and resign Background: nobody is there to promote a key, and one whose signatures nothing replaces could never be dropped")
    .field_path(".interval").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// So often another key follows by itself: it is generated and published `publishBeforeSign` before the last key of the
    /// list, or the one that followed it, has signed for so long. Its name is that one's with the number counted up. What
    /// followed so is in `status.signingKeys`; a key that it replaced and that is not listed is no longer published
    /// `overlap` after it retired. At least `publishBeforeSign` and `overlap` together. Left out, no key follows that is not
    /// listed; those that did stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// For so long a key is published before it signs, so that clients learn of it first.
    #[serde(default = "Rotation::default_publish_before_sign")]
    pub publish_before_sign: Duration,
    /// For so long both keys sign. Clients that trust only one of them can read all that is pushed meanwhile.
    #[serde(default = "Rotation::default_overlap")]
    pub overlap: Duration,
    /// `Automatic`: a published key signs when its time has come. `Manual`: when its stage is set to `Sign`, for
    /// clients whose `nix.conf` is changed by hand.
    #[serde(default)]
    pub promotion: Promotion,
    /// What becomes of stored narinfos when the keys change. `Background`: the server signs them again, and a key retires
    /// by itself only after that. `None`: they stay as they are until `POST /api/resign`, and a key retires by the
    /// clock alone; who trusts only its successor cannot read what was stored before, and what a revoked key
    /// signed stays signed.
    #[serde(default)]
    pub resign: Resign,
    /// Narinfos signed again in a second at most; 0 is any number. Either way S3 is asked more slowly while it throttles.
    #[serde(default = "Rotation::default_resign_per_second")]
    #[schemars(range(min = 0, max = 100_000))]
    pub resign_per_second: i32,
    /// Such writes under way at a time.
    #[serde(default = "Rotation::default_resign_concurrency")]
    #[schemars(range(min = 1, max = 1000))]
    pub resign_concurrency: i32,
}

impl Rotation {
    fn default_publish_before_sign() -> Duration {
        "168h".into()
    }

    fn default_overlap() -> Duration {
        "720h".into()
    }

    fn default_resign_per_second() -> i32 {
        200
    }

    fn default_resign_concurrency() -> i32 {
        8
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            interval: None,
            publish_before_sign: Self::default_publish_before_sign(),
            overlap: Self::default_overlap(),
            promotion: Promotion::default(),
            resign: Resign::default(),
            resign_per_second: Self::default_resign_per_second(),
            resign_concurrency: Self::default_resign_concurrency(),
        }
    }
}

/// When a published key begins to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum Promotion {
    /// When its time has come.
    #[default]
    Automatic,
    /// When its stage is set to `Sign`.
    Manual,
}

/// What becomes of stored narinfos when the keys change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum Resign {
    /// The server signs them again.
    #[default]
    Background,
    /// They stay as they are.
    None,
}
