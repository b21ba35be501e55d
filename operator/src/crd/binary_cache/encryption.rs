//! `spec.storage.s3.serverSideEncryption`: how S3 is told to encrypt what is written.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What S3 is told with whatever is written. The bucket's own default encrypts whoever writes and needs nothing of this: it is
/// for buckets whose policy refuses what comes without these headers. Clients of niks3 1.7 do not send them.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("(self.type == 'KMS') == has(self.kmsKeyId)")
    .message("serverSideEncryption: kmsKeyId goes with type: KMS, and with it alone").field_path(".kmsKeyId").reason(Reason::FieldValueInvalid))]
#[serde(rename_all = "camelCase")]
pub struct ServerSideEncryption {
    /// `AES256`: with keys of S3's own. `KMS`: with a key of its key management service.
    #[serde(rename = "type")]
    pub type_: EncryptionType,
    /// The key: its id, ARN or alias. The server's credentials have to be allowed `kms:GenerateDataKey` and `kms:Decrypt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^[!-~]+$"))]
    pub kms_key_id: Option<String>,
}

/// With whose keys something is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EncryptionType {
    /// With S3's own.
    #[serde(rename = "AES256")]
    Aes256,
    /// With one of its key management service.
    #[serde(rename = "KMS")]
    Kms,
}
