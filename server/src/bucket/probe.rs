//! Whether the bucket can be used. Asked again and again, each time over a connection that ends with the answer:
//! where an address led somewhere else for a moment, as that of a Service does before the node knows it, a
//! connection kept alive would lead there for ever.

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use super::{Bucket, BucketError, Deletion, Failure, PLAIN_TEXT, ReadAnswer, ReadRequest};

impl Bucket {
    /// Whether the bucket is there and these credentials may list it.
    pub async fn probe(&self) -> Result<(), BucketError> {
        let bucket = &self.config.bucket;
        let request = self.client.list_objects_v2().bucket(bucket).prefix(&self.config.prefix).max_keys(1);
        let request = request.customize().interceptor(EndConnection);
        self.call("list", bucket, request.send()).await.map(drop)
    }

    /// Does everything once that a cache does in its bucket, on an object of its own; the error says what is not
    /// allowed.
    pub async fn try_rights(&self) -> Result<(), BucketError> {
        let mut bytes = [0; 8];
        // Where there is no randomness two replicas may disturb each other, and try again.
        let _ = getrandom::fill(&mut bytes);
        let key = format!("{PROBE_PREFIX}{}", hex::encode(bytes));
        let lacks = |right: &'static str| move |error| explain(error, right);
        self.put_own(&key, PLAIN_TEXT, b"niks3".to_vec()).await.map_err(lacks("s3:PutObject"))?;
        let read = self.get(&key, ReadRequest::default()).await.map_err(lacks("s3:GetObject"))?;
        if !matches!(read, ReadAnswer::Found(_)) {
            return Err(unusable(&key, "what was written there cannot be read back"));
        }
        self.head(&key).await.map_err(lacks("s3:GetObject"))?;
        let listed = self.list(&key, None).await.map_err(lacks("s3:ListBucket"))?;
        if listed.is_empty() {
            tracing::warn!("what was just written is not listed yet: this S3 server lists with a delay");
        }
        match self.delete(std::slice::from_ref(&key)).await.as_slice() {
            [Deletion::Confirmed] => {}
            [Deletion::Refused(message)] => {
                let mut error = unusable(&key, message);
                error.failure = Failure::AccessDenied;
                return Err(explain(error, "s3:DeleteObject"));
            }
            _ => return Err(unusable(&key, "deleting got no answer")),
        }
        let open = self.create_multipart_as(&key, PLAIN_TEXT).await.map_err(lacks("s3:PutObject"))?;
        self.abort_multipart(&key, &open).await.map_err(lacks("s3:AbortMultipartUpload"))
    }
}

/// Where the rights are tried.
const PROBE_PREFIX: &str = ".niks3-probe-";

fn unusable(key: &str, message: &str) -> BucketError {
    let message = message.to_owned();
    BucketError { operation: "try", key: key.to_owned(), failure: Failure::Unreachable, message }
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

/// Added after the request is signed: on its way the header may be taken off.
#[derive(Debug)]
struct EndConnection;

impl Intercept for EndConnection {
    fn name(&self) -> &'static str {
        "EndConnection"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context.request_mut().headers_mut().insert("connection", "close");
        Ok(())
    }
}
