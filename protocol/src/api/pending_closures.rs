//! A push: begin, sign, complete. (`/api/pending_closures`)

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::nix::{NarHash, NarInfo, Signature, StorePath};
use crate::object_key::ObjectKind;

/// A NAR of at most this many bytes is one presigned PUT; a larger one is multipart.
pub const MULTIPART_THRESHOLD: u64 = 10 * 1024 * 1024;
/// Bytes of a part, unless the NAR would need more than [`MAX_PLANNED_PARTS`] of them.
pub const PART_SIZE: u64 = 10 * 1024 * 1024;
/// Parts planned for one object at most; S3 ends at 10 000, and compression may fall short.
pub const MAX_PLANNED_PARTS: u64 = 9000;

/// Bytes of each part of a NAR of `nar_size` bytes; the last part may be shorter.
pub fn part_size(nar_size: u64) -> u64 {
    PART_SIZE.max(nar_size.div_ceil(MAX_PLANNED_PARTS))
}

// The server reads one whose keys are parts of the body.
/// `POST /api/pending_closures`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "BeginRequest"))]
#[expect(clippy::struct_excessive_bools, reason = "each is an extension of its own")]
pub struct BeginRequest<Key = String> {
    /// The root: `{32}.narinfo`.
    pub closure: String,
    /// More roots of the same upload (extension [`MULTI_ROOT`](super::cache_config::MULTI_ROOT)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closures: Vec<String>,
    /// Everything the roots reach.
    pub objects: Vec<UploadObject<Key>>,
    /// Look in the bucket even for objects whose rows say they are live.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verify_s3: bool,
    /// The client leaves the writing of narinfos to the server (extension
    /// [`SERVER_NARINFOS`](super::cache_config::SERVER_NARINFOS)).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub server_narinfos: bool,
    /// The client asks for the addresses of objects that are one PUT when it has their bytes (extension
    /// [`BOUND_ADDRESSES`](super::cache_config::BOUND_ADDRESSES)): the answer has none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bound_addresses: bool,
    /// The client sends the headers along that the answer names (extension
    /// [`UPLOAD_HEADERS`](super::cache_config::UPLOAD_HEADERS)).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub upload_headers: bool,
}

/// One object a closure needs. The key is text here, so that the server can name the one it refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "UploadObject"))]
#[serde(bound(deserialize = "Key: Deserialize<'de>"))]
pub struct UploadObject<Key = String> {
    /// Its key in the bucket.
    pub key: Key,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ObjectKind,
    /// Keys it refers to.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub refs: Vec<Key>,
    /// Bytes of the NAR, uncompressed; for NARs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nar_size: Option<u64>,
}

/// Go writes an empty list as `null`.
fn null_as_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The answer to a begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BeginResponse {
    /// The upload's id.
    pub id: String,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Instant"))]
    pub started_at: OffsetDateTime,
    /// By name, what each PUT to a `presigned_url` of this answer has to have beside its own headers; parts have none of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub upload_headers: BTreeMap<String, String>,
    /// By key, what is missing and how to send it.
    pub pending_objects: BTreeMap<String, PendingObject>,
}

/// One missing object: either an address or a multipart upload; neither for a narinfo the server writes, nor for what the
/// client asks an address for later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PendingObject {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ObjectKind,
    /// Where to PUT it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presigned_url: Option<String>,
    /// Or its parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multipart_info: Option<MultipartInfo>,
}

/// An open multipart upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MultipartInfo {
    /// S3's id of it.
    pub upload_id: String,
    /// Addresses of the first parts, from part 1 on.
    pub part_urls: Vec<String>,
}

/// Objects of one [`AddressesRequest`] at most.
pub const MAX_ADDRESSES: usize = 1000;

/// `POST /api/pending_closures/{id}/addresses`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AddressesRequest {
    /// By key, the bytes that are to be stored.
    pub objects: BTreeMap<String, StoredBytes>,
    /// The client sends the headers along that the answer names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub upload_headers: bool,
}

/// The bytes of an object as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoredBytes {
    /// How many; the `Content-Length` of the PUT.
    pub length: u64,
    /// Their sha256 in base-64: the header `x-amz-checksum-sha256` of the PUT.
    pub sha256: String,
}

/// The answer to that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AddressesResponse {
    /// By key, where to PUT those bytes, and no others.
    pub addresses: BTreeMap<String, String>,
    /// By name, what each of these PUTs has to have beside its own headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub upload_headers: BTreeMap<String, String>,
}

/// `POST /api/pending_closures/{id}/sign`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SignRequest {
    /// By key (`{32}.narinfo`), what each narinfo will say.
    pub narinfos: BTreeMap<String, NarInfoMetadata>,
}

/// What a narinfo says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NarInfoMetadata {
    /// The path.
    pub store_path: StorePath,
    /// Key of the NAR.
    pub url: String,
    /// `zstd`, `none`, `xz` or `bzip2`.
    pub compression: String,
    /// sha256 of the NAR.
    pub nar_hash: NarHash,
    /// Bytes of the NAR.
    pub nar_size: u64,
    /// Whole store paths.
    #[serde(default, deserialize_with = "null_as_no_paths")]
    pub references: Vec<StorePath>,
    /// The derivation.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_as_none")]
    pub deriver: Option<StorePath>,
    /// Signatures the path already had.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_no_signatures")]
    pub signatures: Vec<Signature>,
    /// Content address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// What a narinfo says of its path, whatever says where its bytes lie.
impl From<NarInfo> for NarInfoMetadata {
    fn from(narinfo: NarInfo) -> Self {
        Self {
            store_path: narinfo.store_path,
            url: narinfo.url,
            compression: narinfo.compression,
            nar_hash: narinfo.nar_hash,
            nar_size: narinfo.nar_size,
            references: narinfo.references,
            deriver: narinfo.deriver,
            signatures: narinfo.signatures,
            ca: narinfo.ca,
        }
    }
}

impl NarInfoMetadata {
    /// The narinfo that says this.
    pub fn into_narinfo(self, signatures: Vec<Signature>) -> NarInfo {
        NarInfo {
            store_path: self.store_path,
            url: self.url,
            compression: self.compression,
            file_hash: None,
            file_size: None,
            nar_hash: self.nar_hash,
            nar_size: self.nar_size,
            references: self.references,
            deriver: self.deriver,
            signatures,
            ca: self.ca,
        }
    }
}

fn null_as_no_paths<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<StorePath>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn null_as_no_signatures<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Signature>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn empty_as_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<StorePath>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(path) => path.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// The answer to a sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SignResponse {
    /// By key, the signatures to write into the narinfo.
    pub signatures: BTreeMap<String, Vec<Signature>>,
}
