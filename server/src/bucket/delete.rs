//! Deleting, with what is known of each key afterwards.

use std::collections::HashMap;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

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

    async fn send_delete(&self, keys: &[String]) -> Result<HashMap<String, Deletion>, BucketError> {
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
        let request = request.customize().config_override(once());
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
