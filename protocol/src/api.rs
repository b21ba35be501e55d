//! The bodies of the HTTP calls, and their paths.
//!
//! Source: the wire of niks3 1.7. Fields of ours that 1.7 lacks are optional, so that either side may be older.

pub mod cache_config;
pub mod closures;
pub mod fsck;
pub mod gc;
pub mod health;
pub mod multipart;
pub mod paths;
pub mod pending_closures;
pub mod pins;
pub mod resign;
pub mod usage;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The body of every answer of status 400 and above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ErrorBody {
    /// One sentence: what was wrong, where, what to do.
    pub error: String,
    /// The id of the request in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// By key, a sentence on each object that the call is refused for, where it would be taken without them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub objects: BTreeMap<String, String>,
}

/// A permission of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Permission {
    /// Read a private cache.
    Read,
    /// Upload and commit closures.
    Push,
    /// Create and delete pins.
    Pin,
    /// Collect garbage.
    #[serde(rename = "GC")]
    Gc,
    /// All of the above.
    Admin,
}

/// Who the server thinks the caller is: the answer of `GET /api/whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WhoAmI {
    /// `token:NAME` or `ISSUER#SUBJECT`.
    pub identity: String,
    /// What it may do.
    pub permissions: Vec<Permission>,
    /// Globs of the pin names it may write; empty means any.
    #[serde(default)]
    pub pins: Vec<String>,
}
