//! Deleting, with what is known of each key afterwards.

use std::collections::HashMap;

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use super::{Bucket, BucketError, once};

/// Keys one request may delete.
pub const MAX_KEYS: usize = 1000;

/// What is known of a key after a delete was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletion {
    /// S3 confirmed it.
    Confirmed,
    /// S3 said it will not; it did not, and never will.
    Refused(String),
    /// No answer, or one that does not say: it may have happened, or may yet.
    Unknown(String),
}

impl Bucket {
    /// Sends one delete for at most [`MAX_KEYS`] keys, exactly once. The result has every key, in order.
    pub async fn delete(&self, keys: &[String]) -> Vec<Deletion> {
        match self.send_delete(keys).await {
            Ok(refused) => keys
                .iter()
                .map(|key| refused.get(&self.full_key(key)).cloned().unwrap_or(Deletion::Confirmed))
                .collect(),
            Err(error) => {
                let each = if error.is_definite() {
                    Deletion::Refused(error.to_string())
                } else {
                    Deletion::Unknown(error.to_string())
                };
                vec![each; keys.len()]
            }
        }
    }

    /// The keys that are not confirmed.
    pub(super) async fn send_delete(
        &self,
        keys: &[String],
    ) -> Result<HashMap<String, Deletion>, BucketError> {
        let unbuildable = |error: aws_sdk_s3::error::BuildError| BucketError {
            operation: "delete",
            key: String::new(),
            failure: super::Failure::Refused,
            message: error.to_string(),
        };
        let mut delete = Delete::builder().quiet(true);
        for key in keys {
            let object = ObjectIdentifier::builder().key(self.full_key(key)).build().map_err(unbuildable)?;
            delete = delete.objects(object);
        }
        let request = self.client.delete_objects().bucket(&self.config.bucket);
        let request = request.delete(delete.build().map_err(unbuildable)?);
        let request = request.customize().config_override(once()).interceptor(ByMd5);
        let answer = self.call("delete", &format!("{} keys", keys.len()), request.send()).await?;
        let outcomes = answer.errors().iter().filter_map(|error| {
            let key = error.key()?.to_owned();
            let code = error.code().unwrap_or("unknown");
            let said = format!("{code} {}", error.message().unwrap_or_default()).trim_end().to_owned();
            let outcome = match code {
                // Some servers report a key that is already gone as an error.
                "NoSuchKey" => return None,
                "AccessDenied" | "MethodNotAllowed" | "InvalidRequest" | "InvalidArgument" => {
                    Deletion::Refused(said)
                }
                _ => Deletion::Unknown(said),
            };
            Some((key, outcome))
        });
        Ok(outcomes.collect())
    }
}

/// The request has to have a checksum. MD5 is the one that every S3 server takes: the CRC32 of the SDK is unknown to many, and
/// B2 refuses what has it.
#[derive(Debug)]
struct ByMd5;

impl Intercept for ByMd5 {
    fn name(&self) -> &'static str {
        "ByMd5"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let body = request.body().bytes().ok_or("the keys to delete are not in memory")?;
        let sum = STANDARD.encode(Md5::digest(body));
        let headers = request.headers_mut();
        let others: Vec<String> = headers
            .iter()
            .map(|(name, _)| name.to_owned())
            .filter(|name| name.contains("checksum"))
            .collect();
        for name in others {
            headers.remove(name);
        }
        headers.insert("content-md5", sum);
        Ok(())
    }
}
