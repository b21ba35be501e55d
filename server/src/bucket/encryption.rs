//! Headers by which S3 is told to encrypt what is written. A bucket's default does the same for whoever writes; a bucket whose
//! policy refuses what is written without them needs them.

use aws_sdk_s3::types::ServerSideEncryption;
use niks3_protocol::server_config::{EncryptionSection, EncryptionType};

/// How S3 is told to encrypt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// With keys of its own.
    Aes256,
    /// With this key of its key management service.
    Kms(String),
}

impl Encryption {
    /// What a configuration says, or a sentence.
    pub fn of(section: EncryptionSection) -> Result<Self, &'static str> {
        match (section.kind, section.kms_key_id.filter(|id| !id.is_empty())) {
            (EncryptionType::Aes256, None) => Ok(Self::Aes256),
            (EncryptionType::Kms, Some(id)) if id.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Self::Kms(id))
            }
            (EncryptionType::Kms, Some(_)) => Err("the id of a KMS key has no white space and is ASCII"),
            (EncryptionType::Aes256, Some(_)) => Err("a KMS key is for the encryption KMS, not for AES256"),
            (EncryptionType::Kms, None) => Err("the encryption KMS needs the id of a key"),
        }
    }

    /// The headers of a request that writes an object or opens a multipart upload, by name; parts have none.
    pub(super) fn headers(&self) -> Vec<(&'static str, &str)> {
        let kind = match self {
            Self::Aes256 => "AES256",
            Self::Kms(_) => "aws:kms",
        };
        let key = self.key().map(|id| ("x-amz-server-side-encryption-aws-kms-key-id", id));
        std::iter::once(("x-amz-server-side-encryption", kind)).chain(key).collect()
    }

    /// As the SDK names it.
    pub(super) fn sdk(&self) -> ServerSideEncryption {
        match self {
            Self::Aes256 => ServerSideEncryption::Aes256,
            Self::Kms(_) => ServerSideEncryption::AwsKms,
        }
    }

    /// The key, where it is not S3's own.
    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Self::Aes256 => None,
            Self::Kms(id) => Some(id),
        }
    }
}
