//! Multipart uploads of large NARs. (`/api/multipart/…`)

use serde::{Deserialize, Serialize};

/// Parts one call may ask for.
pub const MAX_PARTS_PER_CALL: u32 = 1000;
/// The last part number S3 knows.
pub const MAX_PART_NUMBER: u32 = 10_000;

/// `POST /api/multipart/request-parts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RequestPartsRequest {
    /// Key of the object.
    pub object_key: String,
    /// S3's id of the upload.
    pub upload_id: String,
    /// From 1.
    pub start_part_number: u32,
    /// 1 to [`MAX_PARTS_PER_CALL`].
    pub num_parts: u32,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RequestPartsResponse {
    /// In order of part number.
    pub part_urls: Vec<String>,
    /// The number of the first.
    pub start_part_number: u32,
}

/// `POST /api/multipart/list-parts` (extension [`RESUME`](super::cache_config::RESUME)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListPartsRequest {
    /// Key of the object.
    pub object_key: String,
    /// S3's id of the upload.
    pub upload_id: String,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListPartsResponse {
    /// What S3 has of the upload, in order of part number.
    pub parts: Vec<CompletedPart>,
}

/// `POST /api/multipart/complete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CompleteMultipartRequest {
    /// Key of the object.
    pub object_key: String,
    /// S3's id of the upload.
    pub upload_id: String,
    /// All parts.
    pub parts: Vec<CompletedPart>,
}

/// One part that S3 acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CompletedPart {
    /// From 1.
    pub part_number: u32,
    /// The `ETag` S3 answered with.
    pub etag: String,
}
