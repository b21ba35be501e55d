//! What the cache knows of a store path, and who pushed it. (`/api/paths`)

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::nix::{NarHash, Signature, StorePath};

/// `GET /api/paths/{hash}`, the hash being the 32 digits of the store path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PathDetails {
    /// The path.
    pub store_path: StorePath,
    /// Key of its NAR.
    pub url: String,
    /// `zstd`, `none`, `xz` or `bzip2`.
    pub compression: String,
    /// sha256 of the NAR.
    pub nar_hash: NarHash,
    /// Bytes of the NAR.
    pub nar_size: u64,
    /// Whole store paths.
    pub references: Vec<StorePath>,
    /// The derivation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deriver: Option<StorePath>,
    /// Content address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Signatures of this cache's keys.
    pub signatures: Vec<Signature>,
    /// Whose push wrote it: `token:NAME` or `ISSUER#SUBJECT`.
    pub pushed_by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Instant"))]
    pub pushed_at: OffsetDateTime,
    /// What else is known of who pushed it: `issuer`, `subject`, `namespace`, `service_account`, `pod`, `provider`
    /// or `token`, as far as its identity has them, and the `address` it came from.
    pub origin: Map<String, Value>,
}
