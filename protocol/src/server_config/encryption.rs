//! How S3 is told to encrypt what is written.

use serde::{Deserialize, Serialize};

/// How S3 is told to encrypt what is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncryptionSection {
    /// With whose keys.
    #[serde(rename = "type")]
    pub kind: EncryptionType,
    /// Which key, with `KMS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key_id: Option<String>,
}

/// With whose keys something is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncryptionType {
    /// With S3's own.
    #[serde(rename = "AES256")]
    Aes256,
    /// With one of a key management service.
    #[serde(rename = "KMS")]
    Kms,
}
