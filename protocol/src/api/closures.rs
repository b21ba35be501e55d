//! Committed closures. (`/api/closures`)

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// `GET /api/closures/{key}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Closure {
    /// The root: `{32}.narinfo`.
    pub id: String,
    /// When it was last pushed or refreshed.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Instant"))]
    pub updated_at: OffsetDateTime,
    /// Keys of everything it reaches.
    pub objects: Vec<String>,
}

/// `POST /api/closures/refresh` (extension [`REFRESH`](super::cache_config::REFRESH)): are these closures
/// there? Those that are count as pushed now, so a push of what is cached is this one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RefreshRequest {
    /// Roots: `{32}.narinfo`.
    pub closures: Vec<String>,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RefreshResponse {
    /// The roots that were there, and are refreshed.
    pub present: Vec<String>,
}
