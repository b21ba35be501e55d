//! Whether the bucket can be used. Asked again and again, each time over a connection that ends with the answer:
//! where an address led somewhere else for a moment, as that of a Service does before the node knows it, a
//! connection kept alive would lead there for ever.

use std::time::Duration;

use aws_sdk_s3::Config;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use super::trial::lacks;
use super::{Bucket, BucketError};

/// Few and soon: who asks wants to hear what is wrong before they have waited enough.
const ATTEMPTS: u32 = 2;
/// Before the second, at most.
const PAUSE: Duration = Duration::from_millis(100);

impl Bucket {
    /// Whether the bucket is there and these credentials may list it.
    pub async fn probe(&self) -> Result<(), BucketError> {
        let bucket = &self.config.bucket;
        let request = self.client.list_objects_v2().bucket(bucket).prefix(&self.config.prefix).max_keys(1);
        let request = request.customize().interceptor(EndConnection);
        let request =
            request.config_override(Config::builder().retry_config(
                RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(PAUSE),
            ));
        self.call("list", bucket, request.send()).await.map_err(lacks("s3:ListBucket")).map(drop)
    }
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
