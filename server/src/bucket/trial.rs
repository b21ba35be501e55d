//! Everything that a cache does in its bucket, done once on objects of its own: S3 servers differ, and rights are given one by
//! one. docs/s3.md has what was found where.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ServerSideEncryption;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::{
    Bucket, BucketError, Deletion, Encryption, Failure, Listed, PLAIN_TEXT, ReadAnswer, ReadRequest,
};

/// Where it is tried.
const PREFIX: &str = ".niks3-probe-";
/// What every other object but NARs is stored with.
const ENCODING: &str = "zstd";
/// What is written.
const TRIAL: &[u8] = b"niks3";

/// What an administrator should know of a bucket that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// A listing came too late.
    #[error("what was just written is not listed yet: this S3 server lists with a delay")]
    ListsLate,
    /// Deleting leaves a version.
    #[error(
        "this bucket keeps versions: what a collection deletes stays, and is paid for, until a lifecycle rule removes \
         versions that are not current (NoncurrentVersionExpiration; on B2 \"keep only the last version\")"
    )]
    KeepsVersions,
}

impl Bucket {
    /// Tries it; the error says which right is not given, or what the server lacks. Bound addresses only where they are to be
    /// used.
    pub async fn try_all(&self, bound: bool) -> Result<Vec<Notice>, BucketError> {
        let mut bytes = [0; 8];
        // Where there is no randomness two replicas may disturb each other, and try again.
        let _ = getrandom::fill(&mut bytes);
        let prefix = format!("{PREFIX}{}-", hex::encode(bytes));
        // In the order of their bytes, which is not that of a dictionary.
        let keys = [format!("{prefix}Z"), format!("{prefix}a")];
        let mut notices = Vec::new();
        for key in &keys {
            if self.put_trial(key, None).await.map_err(lacks("s3:PutObject"))? {
                notices.push(Notice::KeepsVersions);
            }
        }
        notices.dedup();
        let [first, second] = &keys;
        self.try_reading(second).await?;
        match self.list(&prefix, Some(first)).await.map_err(lacks("s3:ListBucket"))?.as_slice() {
            [Listed { key, .. }] if key == second => {}
            [] => notices.push(Notice::ListsLate),
            _ => {
                return Err(unsupported(
                    first,
                    "it lists what is not after the key in `start-after`, in the order of bytes, as ListObjectsV2 has to",
                ));
            }
        }
        if bound {
            self.try_bound(second).await?;
        }
        self.try_deleting(&keys).await?;
        self.try_multipart(second).await?;
        Ok(notices)
    }

    /// Writes an object; whether it is a version beside others.
    async fn put_trial(&self, key: &str, sha256: Option<&[u8]>) -> Result<bool, BucketError> {
        let request = self
            .put_object(key)
            .content_type(PLAIN_TEXT)
            .content_encoding(ENCODING)
            .set_checksum_sha256(sha256.map(|sum| STANDARD.encode(sum)))
            .body(ByteStream::from_static(TRIAL));
        let answer = self.call("put", key, request.send()).await?;
        if let Some(wanted) = self.config.encryption.as_ref().map(Encryption::sdk)
            && answer.server_side_encryption() != Some(&wanted)
        {
            let found = answer.server_side_encryption().map_or("nothing", ServerSideEncryption::as_str);
            let wanted = wanted.as_str();
            return Err(unsupported(
                key,
                &format!(
                    "it was told to encrypt with {wanted}, and says {found} of that; switch off --s3-encryption"
                ),
            ));
        }
        Ok(answer.version_id().is_some_and(|version| !matches!(version, "" | "null")))
    }

    async fn try_reading(&self, key: &str) -> Result<(), BucketError> {
        let read = self.get(key, ReadRequest::default()).await.map_err(lacks("s3:GetObject"))?;
        let ReadAnswer::Found(object) = read else {
            return Err(unsupported(key, "what was written there cannot be read back at once"));
        };
        if object.content_encoding.as_deref() != Some(ENCODING) {
            let found = object.content_encoding.as_deref().unwrap_or("none");
            return Err(unsupported(
                key,
                &format!(
                    "it does not keep an object's Content-Encoding ({ENCODING} was written, {found} is read), without which Nix \
                     cannot read narinfos; is there a proxy before it that changes it?"
                ),
            ));
        }
        self.head(key).await.map_err(lacks("s3:GetObject")).map(drop)
    }

    /// Upload addresses are bound to bytes by their checksum: the server has to take it, and nothing that differs from it.
    async fn try_bound(&self, key: &str) -> Result<(), BucketError> {
        let lacking = |lack: &str| {
            let lack = format!(
                "{lack}, so upload addresses cannot be bound to bytes here; switch off --bound-uploads"
            );
            Err(unsupported(key, &lack))
        };
        match self.put_trial(key, Some(&Sha256::digest(TRIAL))).await {
            Ok(_) => {}
            Err(error) if matches!(error.failure, Failure::Refused | Failure::Unsupported) => {
                return lacking(&format!("it does not take `x-amz-checksum-sha256` ({})", error.message));
            }
            Err(error) => return Err(error),
        }
        match self.put_trial(key, Some(&Sha256::digest(b"others"))).await {
            Ok(_) => lacking("it stores other bytes than those that `x-amz-checksum-sha256` tells of"),
            Err(error) if error.is_definite() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn try_deleting(&self, keys: &[String]) -> Result<(), BucketError> {
        let outcomes = self.send_delete(keys).await.map_err(lacks("s3:DeleteObject"))?;
        for (key, outcome) in keys.iter().zip(outcomes) {
            match outcome {
                Deletion::Confirmed => {}
                Deletion::Refused(message) => {
                    return Err(explain(failed(key, Failure::AccessDenied, &message), "s3:DeleteObject"));
                }
                Deletion::Unknown(message) => return Err(failed(key, Failure::Unreachable, &message)),
            }
        }
        Ok(())
    }

    async fn try_multipart(&self, key: &str) -> Result<(), BucketError> {
        let open = self.create_multipart_as(key, PLAIN_TEXT).await.map_err(lacks("s3:PutObject"))?;
        let parts = self.list_parts(key, &open).await.map_err(lacks("s3:ListMultipartUploadParts"));
        self.abort_multipart(key, &open).await.map_err(lacks("s3:AbortMultipartUpload"))?;
        parts.map(drop)
    }
}

fn failed(key: &str, failure: Failure, message: &str) -> BucketError {
    BucketError { operation: "trial of", key: key.to_owned(), failure, message: message.to_owned() }
}

fn unsupported(key: &str, lack: &str) -> BucketError {
    failed(key, Failure::Unsupported, &format!("this S3 server cannot be used so: {lack}"))
}

/// Says which right a refusal is of.
pub(super) fn lacks(right: &'static str) -> impl Fn(BucketError) -> BucketError {
    move |error| explain(error, right)
}

/// What to do about a refusal, beside what S3 says of it.
fn explain(mut error: BucketError, right: &str) -> BucketError {
    if error.failure == Failure::AccessDenied {
        error.message = format!(
            "{}; allow these credentials {right} on the bucket and all below its prefix",
            error.message
        );
    }
    error
}
