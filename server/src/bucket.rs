//! S3 in our words: the only module that names the SDK. Never called while a transaction is open.
//!
//! Keys are relative to the configured prefix. One request may take [`BucketConfig::request_timeout`];
//! what was sent ten times that long ago has happened or never will ([`BucketConfig::settle_time`]). That is
//! the one assumption about time the collector makes, so nothing here may wait longer on one request.

mod connections;
mod credentials;
mod delete;
mod direct;
mod encryption;
mod error;
mod list;
mod multipart;
mod pace;
mod presign;
mod probe;
mod read;
mod session;
mod sigv4;
mod steady;
mod trial;
mod web_identity;

use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use niks3_protocol::object_key::ObjectKey;
use tracing::Instrument as _;

use connections::{Over, connector, https_client};
use credentials::Keeper;
pub use delete::{Deletion, MAX_KEYS as MAX_DELETE_KEYS};
use direct::{Direct, ObjectRequest, Verb};
pub use encryption::Encryption;
pub use error::{BucketError, Failure};
pub use list::Listed;
pub use presign::Presigner;
pub use read::{ObjectRead, ReadAnswer, ReadRequest};
pub use session::SessionFiles;
pub use trial::Notice;
pub use web_identity::WebIdentity;

use crate::metrics::S3Calls;

/// `Content-Type` of the server's own small objects.
pub const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// How to reach a bucket.
#[derive(Clone, Debug, Default)]
pub struct BucketConfig {
    /// Origin of the S3 server; AWS where it is left out.
    pub endpoint: Option<String>,
    /// Origin that upload addresses are signed for; the endpoint where it is left out.
    pub public_endpoint: Option<String>,
    /// Its name.
    pub bucket: String,
    /// Before every key; empty, or ending in `/`.
    pub prefix: String,
    /// Its region.
    pub region: String,
    /// `https://host/bucket/key` rather than `https://bucket.host/key`.
    pub path_style: bool,
    /// Access key id and secret; the environment's chain where they are left out.
    pub credentials: Option<StaticCredentials>,
    /// Files with keys that end, in place of those.
    pub session: Option<SessionFiles>,
    /// What that chain has in place of an instance's role.
    pub web_identity: Option<WebIdentity>,
    /// How S3 is told to encrypt what is written.
    pub encryption: Option<Encryption>,
    /// The limit on one request, body included unless it is streamed to a reader.
    pub request_timeout: Duration,
    /// Make the bucket where it is missing.
    pub create_bucket: bool,
    /// CAs that count beside the system's, as PEM.
    pub ca: Option<Vec<u8>>,
    /// Requests a second at most; 0 is any number.
    pub rate_limit: u32,
}

/// An access key. Its `Debug` shows neither half.
#[derive(Clone)]
pub struct StaticCredentials {
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
}

impl std::fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StaticCredentials")
    }
}

impl BucketConfig {
    /// T of docs/gc.md: a request sent longer ago has happened or never will.
    pub fn settle_time(&self) -> Duration {
        self.request_timeout * 10
    }
}

/// One bucket and prefix.
#[derive(Clone, Debug)]
pub struct Bucket {
    client: Client,
    direct: Direct,
    credentials: Keeper,
    config: BucketConfig,
    calls: S3Calls,
}

/// What a look at an object tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHead {
    /// Stored bytes.
    pub size: i64,
    /// Quoted; changes with the content.
    pub etag: String,
}

impl Bucket {
    /// Prepares a client; nothing is sent yet.
    pub async fn open(config: BucketConfig) -> Result<Self, BucketError> {
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(config.request_timeout).build();
        let https = https_client(config.ca.as_deref())?;
        // The future of reading AWS's files is large.
        let credentials = Box::pin(Keeper::open(&config, https)).await;
        let connector = connector(&config)?;
        let direct = Direct::new(&config, connector.clone(), credentials.clone())?;
        let mut builder = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(config.region.clone()))
            .credentials_provider(credentials.clone())
            // They are kept already.
            .identity_cache(IdentityCache::no_cache())
            .force_path_style(config.path_style)
            // The SDK's newer default sends trailers that several S3 servers refuse.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .timeout_config(timeouts);
        if let Some(endpoint) = &config.endpoint {
            builder = builder.endpoint_url(endpoint);
        }
        let client = Client::from_conf(builder.http_client(Over(connector)).build());
        Ok(Self { client, direct, credentials, config, calls: S3Calls::default() })
    }

    /// How it was opened.
    pub fn config(&self) -> &BucketConfig {
        &self.config
    }

    /// What it counts of its calls.
    pub fn calls(&self) -> &S3Calls {
        &self.calls
    }

    /// Waits for a call of the SDK, counts it, and says in our words how it failed.
    fn call<T, E: ProvideErrorMetadata + std::error::Error + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> impl Future<Output = Result<T, BucketError>> {
        // The SDK's futures are large.
        let call = Box::pin(call);
        self.observe(operation, key, async move {
            call.await.map_err(|error| BucketError::from_sdk(operation, key, &error))
        })
    }

    /// Waits for a call and counts it.
    async fn observe<T>(
        &self,
        operation: &'static str,
        key: &str,
        call: impl Future<Output = Result<T, BucketError>>,
    ) -> Result<T, BucketError> {
        let span = tracing::trace_span!("s3", operation, key, result = tracing::field::Empty);
        let started = Instant::now();
        let answer = call.instrument(span.clone()).await;
        let result = answer.as_ref().map_or_else(|error| error.failure.label(), |_| "ok");
        span.record("result", result);
        self.calls.count(operation, result, started.elapsed());
        answer
    }

    /// Makes the bucket, where that was asked for and it is missing.
    pub async fn prepare(&self) -> Result<(), BucketError> {
        if !self.config.create_bucket {
            return Ok(());
        }
        match self.probe().await {
            Err(error) if error.failure == Failure::BucketNotFound => {}
            other => return other,
        }
        let bucket = &self.config.bucket;
        match self.call("create bucket", bucket, self.client.create_bucket().bucket(bucket).send()).await {
            Ok(_) => Ok(()),
            // Another replica was quicker.
            Err(error) => self.probe().await.map_err(|_| error),
        }
    }

    /// The SDK's request to write an object, encrypted as it is to be.
    fn put_object(&self, key: &str) -> PutObjectFluentBuilder {
        let encryption = self.config.encryption.as_ref();
        let request = self.client.put_object().bucket(&self.config.bucket).key(self.full_key(key));
        request
            .set_server_side_encryption(encryption.map(Encryption::sdk))
            .set_ssekms_key_id(encryption.and_then(Encryption::key).map(str::to_owned))
    }

    /// Writes one of the server's own objects (`nix-cache-info`, `pins/…`).
    pub async fn put_own(&self, key: &str, content_type: &str, body: Vec<u8>) -> Result<(), BucketError> {
        let request = self.put_object(key).content_type(content_type).body(ByteStream::from(body));
        self.call("put", key, request.send()).await.map(drop)
    }

    /// Writes an object of a closure, as its kind is stored, by exactly one request.
    pub async fn put_once(&self, key: &ObjectKey, body: Vec<u8>) -> Result<(), BucketError> {
        let name = key.to_string();
        let encoding = key.kind().content_encoding().map(|encoding| ("content-encoding", encoding));
        let stored: Vec<_> = std::iter::once(("content-type", key.kind().content_type()))
            .chain(encoding)
            .chain(self.config.encryption.iter().flat_map(Encryption::headers))
            .collect();
        let asked =
            ObjectRequest { stored: &stored, bytes: body.into(), ..ObjectRequest::new(Verb::Put, &name) };
        self.observe(Verb::Put.operation(), &name, self.direct.send_once(&asked)).await.map(drop)
    }

    /// Why there are no credentials, where that was so when they were last wanted.
    pub fn without_credentials(&self) -> Option<String> {
        self.credentials.problem()
    }

    /// What signs upload addresses from now on for as long as its credentials last.
    pub async fn presigner(&self, expiry: Duration) -> Result<Presigner, BucketError> {
        let credentials = self.credentials.get().await.map_err(|why| BucketError {
            operation: "presign",
            key: String::new(),
            failure: Failure::NoCredentials,
            message: why.to_string(),
        })?;
        Presigner::new(&self.config, &credentials, time::OffsetDateTime::now_utc(), expiry)
    }

    fn full_key(&self, key: &str) -> String {
        format!("{}{key}", self.config.prefix)
    }
}

/// For what has to be sent exactly once: a retry of the SDK's own would hide an outstanding request behind a later
/// answer.
fn once() -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::Config::builder().retry_config(RetryConfig::disabled())
}
