//! `GET /api/cache-config` and `GET /api/cache-stats`.

use serde::{Deserialize, Serialize};

use crate::nix::PublicKey;

/// An upload may have several roots: [`BeginRequest::closures`](super::pending_closures::BeginRequest::closures).
pub const MULTI_ROOT: &str = "multi-root";
/// The server has `POST /api/closures/refresh`.
pub const REFRESH: &str = "refresh";
/// The server writes narinfos itself at the commit, so a client that says so is given no address for them:
/// [`BeginRequest::server_narinfos`](super::pending_closures::BeginRequest::server_narinfos).
pub const SERVER_NARINFOS: &str = "server-narinfos";
/// The server has `POST /api/multipart/list-parts`, and no commit without each object in the bucket: what an
/// interrupted push sent need not be sent again.
pub const RESUME: &str = "resume";
/// The server has `POST /api/gc`, which takes a whole policy, and runs by number.
pub const GC_POLICY: &str = "gc-policy";
/// The server says why a path is kept, what takes the space, and deletes a path at once: `GET
/// /api/paths/{hash}/why`, `GET /api/usage`, `POST /api/paths/{hash}/delete`.
pub const EXPLAIN: &str = "explain";
/// The server has `POST /api/fsck`.
pub const FSCK: &str = "fsck";
/// Upload addresses are asked for when the bytes are ready, and bound to them: `POST
/// /api/pending_closures/{id}/addresses`, [`BeginRequest::bound_addresses`](super::pending_closures::BeginRequest::bound_addresses).
pub const BOUND_ADDRESSES: &str = "bound-addresses";
/// A client that says so may be given headers that each PUT of an object has to have:
/// [`BeginRequest::upload_headers`](super::pending_closures::BeginRequest::upload_headers).
pub const UPLOAD_HEADERS: &str = "upload-headers";
/// Realisations may be stored as `build-trace-v2/{name}.drv/{output}.doi` too.
pub const BUILD_TRACE: &str = "build-trace-v2";

/// What a client must know of a cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CacheConfig {
    /// Where Nix reads from.
    pub substituter_url: String,
    /// For `trusted-public-keys`.
    pub public_keys: Vec<PublicKey>,
    /// The audience a token must name, where the asked-for issuer is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc_audience: Option<String>,
    /// What this server can beyond niks3 1.7, by the constants of this module.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<String>,
    /// Where the store paths are that the cache takes, as `StoreDir` of its `nix-cache-info`; servers from this one on say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_dir: Option<String>,
    /// The server's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
}

/// How much a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CacheStats {
    /// Live objects.
    pub objects: i64,
    /// Sum of the live NARs' sizes, uncompressed, in bytes.
    pub logical_bytes: i64,
}
