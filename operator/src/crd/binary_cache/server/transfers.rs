//! `spec.server.readProxy` and `spec.server.uploads`: how objects come and go.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crd::schema::{Duration, Quantity};

/// Whether the server serves what the cache holds.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("duration(self.redirectTTL) >= duration('1m') && duration(self.redirectTTL) <= duration('168h')")
    .message("redirectTTL: from 1m to 168h").field_path(".redirectTTL").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct ReadProxy {
    /// `Disabled`: Nix reads from the bucket, so `url` is the bucket's address and the bucket is readable by
    /// clients. `Proxy`: Nix reads from the server, and the bucket stays private. `Redirect`: the same, but NARs come
    /// from the bucket, by addresses that end: clients have to reach the S3 server.
    #[serde(default)]
    pub mode: ReadProxyMode,
    /// How long an address is valid that `Redirect` sends readers to.
    #[serde(default = "ReadProxy::default_redirect_ttl", rename = "redirectTTL")]
    pub redirect_ttl: Duration,
}

impl ReadProxy {
    fn default_redirect_ttl() -> Duration {
        "15m".into()
    }
}

impl Default for ReadProxy {
    fn default() -> Self {
        Self { mode: ReadProxyMode::default(), redirect_ttl: Self::default_redirect_ttl() }
    }
}

/// Whether the server serves what the cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum ReadProxyMode {
    /// Nix reads from the bucket.
    #[default]
    Disabled,
    /// Nix reads from the server.
    Proxy,
    /// Nix reads from the server, NARs from the bucket.
    Redirect,
}

/// What clients upload.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("duration(self.presignExpiry) >= duration('5m') && duration(self.presignExpiry) <= duration('12h')")
    .message("presignExpiry: from 5m to 12h").field_path(".presignExpiry").reason(Reason::FieldValueInvalid))]
#[x_kube(validation = Rule::new(
    "isQuantity(string(self.maxNarSize)) && !quantity(string(self.maxNarSize)).isLessThan(quantity('1Mi')) && !quantity(string(self.maxNarSize)).isGreaterThan(quantity('5Ti'))"
).message("maxNarSize: from 1Mi to 5Ti, the most that S3 can hold").field_path(".maxNarSize").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct Uploads {
    /// The largest NAR that clients may send, uncompressed. What the cache holds already may be larger: what needs it is
    /// pushed all the same.
    #[serde(default = "Uploads::default_max_nar_size")]
    pub max_nar_size: Quantity,
    /// How long an address for an upload is valid, which is how long the upload of a path may take.
    #[serde(default = "Uploads::default_presign_expiry")]
    pub presign_expiry: Duration,
    /// What the server looks at before it signs and commits. `None`: nothing, clients are believed. `Head`: whether
    /// each object is in the bucket and as long as it should be. `Hash`: that, and each NAR is read back and compared
    /// with its hash.
    #[serde(default)]
    pub verify: VerifyUploads,
    /// `Enabled`: clients are told to ask for an address when they have an object's bytes, and it takes those alone: of
    /// this length and sha256, checked by S3 itself. Clients that know nothing of it upload as before. Tried on
    /// MinIO and versitygw.
    #[serde(default)]
    pub bound_addresses: BoundAddresses,
}

impl Uploads {
    fn default_max_nar_size() -> Quantity {
        "50Gi".into()
    }

    fn default_presign_expiry() -> Duration {
        "5h".into()
    }
}

impl Default for Uploads {
    fn default() -> Self {
        Self {
            max_nar_size: Self::default_max_nar_size(),
            presign_expiry: Self::default_presign_expiry(),
            verify: VerifyUploads::default(),
            bound_addresses: BoundAddresses::default(),
        }
    }
}

/// What the server looks at before it signs and commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum VerifyUploads {
    /// Nothing.
    None,
    /// That objects are there, and their lengths.
    #[default]
    Head,
    /// That, and the hashes of NARs.
    Hash,
}

/// Whether clients are told of upload addresses bound to their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
pub enum BoundAddresses {
    /// They are not.
    #[default]
    Disabled,
    /// They are.
    Enabled,
}
