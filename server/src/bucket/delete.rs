//! Deleting, with what is known of each key afterwards.

use std::collections::HashMap;

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::types::{Delete, Error, ObjectIdentifier};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use tokio::time::Instant;

use super::{Bucket, BucketError, Failure, once};

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
        let until = Instant::now() + self.config.request_timeout;
        let answer = loop {
            match self.send_delete(keys).await {
                // So nothing is under way, and it may go out while its time is not over.
                Err(BucketError { failure: Failure::NotSent(wait), .. }) if Instant::now() + wait < until => {
                    tokio::time::sleep(wait).await;
                }
                answer => break answer,
            }
        };
        match answer {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let each = if error.is_definite() || matches!(error.failure, Failure::NotSent(_)) {
                    Deletion::Refused(error.to_string())
                } else {
                    Deletion::Unknown(error.to_string())
                };
                vec![each; keys.len()]
            }
        }
    }

    /// What an answer says of each key, in their order.
    pub(super) async fn send_delete(&self, keys: &[String]) -> Result<Vec<Deletion>, BucketError> {
        let unbuildable = |error: aws_sdk_s3::error::BuildError| BucketError {
            operation: "delete",
            key: String::new(),
            failure: Failure::Refused,
            message: error.to_string(),
        };
        let mut delete = Delete::builder().quiet(true);
        let keys: Vec<String> = keys.iter().map(|key| self.full_key(key)).collect();
        for key in &keys {
            let object = ObjectIdentifier::builder().key(key).build().map_err(unbuildable)?;
            delete = delete.objects(object);
        }
        let request = self.client.delete_objects().bucket(&self.config.bucket);
        let request = request.delete(delete.build().map_err(unbuildable)?);
        let request = request.customize().config_override(once()).interceptor(ByMd5);
        let answer = self.call("delete", &format!("{} keys", keys.len()), request.send()).await?;
        Ok(judge(&keys, answer.errors()))
    }
}

/// What is known of each key where S3 told of these errors, and of nothing else. One that is of none of the keys may be of any
/// that no other is of.
fn judge(keys: &[String], errors: &[Error]) -> Vec<Deletion> {
    let mut told: HashMap<&str, Option<Deletion>> = keys.iter().map(|key| (key.as_str(), None)).collect();
    let mut others = Deletion::Confirmed;
    for error in errors {
        let code = error.code().unwrap_or("unknown");
        let said = format!("{code} {}", error.message().unwrap_or_default()).trim_end().to_owned();
        let Some(outcome) = error.key().and_then(|key| told.get_mut(key)) else {
            let of = error.key().unwrap_or("no key");
            others = Deletion::Unknown(format!("S3 tells of an error of {of}: {said}"));
            continue;
        };
        *outcome = Some(match code {
            // Some servers report a key that is already gone as an error.
            "NoSuchKey" => Deletion::Confirmed,
            "AccessDenied" | "MethodNotAllowed" | "InvalidRequest" | "InvalidArgument" => {
                Deletion::Refused(said)
            }
            _ => Deletion::Unknown(said),
        });
    }
    let of = |key: &String| told.get(key.as_str()).cloned().flatten();
    keys.iter().map(|key| of(key).unwrap_or_else(|| others.clone())).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn error(key: Option<&str>, code: &str) -> Error {
        Error::builder().set_key(key.map(str::to_owned)).code(code).message("why").build()
    }

    #[test]
    fn each_key_is_what_s3_says_of_it_and_what_it_says_of_none_may_be_of_any() {
        let keys = ["p/a", "p/b", "p/c"].map(str::to_owned);
        let judge = |errors: &[Error]| judge(&keys, errors);
        let refused = Deletion::Refused("AccessDenied why".to_owned());
        let unknown = Deletion::Unknown("SlowDown why".to_owned());
        assert_eq!(judge(&[]), [const { Deletion::Confirmed }; 3]);
        let own = [error(Some("p/a"), "AccessDenied"), error(Some("p/c"), "SlowDown")];
        assert_eq!(judge(&own), [refused.clone(), Deletion::Confirmed, unknown]);
        for (stray, of) in
            [(error(None, "InternalError"), "no key"), (error(Some("b"), "InternalError"), "b")]
        {
            let told = [error(Some("p/a"), "AccessDenied"), stray, error(Some("p/c"), "NoSuchKey")];
            let may_be = Deletion::Unknown(format!("S3 tells of an error of {of}: InternalError why"));
            assert_eq!(judge(&told), [refused.clone(), may_be, Deletion::Confirmed]);
        }
    }
}
