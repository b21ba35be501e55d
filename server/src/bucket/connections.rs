//! Connections to S3, of which the SDK's requests and our own have the same.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector};

use super::pace::{Pace, Paced};
use super::{BucketConfig, BucketError, Failure};

/// The limit on connecting.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Connections that are kept, and asked no faster than S3 takes it.
pub(super) fn connector(config: &BucketConfig) -> Result<SharedHttpConnector, BucketError> {
    // Where S3 is asked without TLS, nobody is trusted: the system's CAs are half a MiB.
    let plain = config.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let context = if plain { tls(TrustStore::empty())? } else { trust(config.ca.as_deref())? };
    let settings = HttpConnectorSettings::builder()
        .connect_timeout(config.request_timeout.min(CONNECT_LIMIT))
        .read_timeout(config.request_timeout)
        .build();
    let connector = Connector::builder()
        .connector_settings(settings)
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .build();
    let pace = Arc::new(Pace::new(config.rate_limit));
    Ok(SharedHttpConnector::new(Paced { connector: SharedHttpConnector::new(connector), pace }))
}

/// The SDK's client over these connections.
#[derive(Debug)]
pub(super) struct Over(pub(super) SharedHttpConnector);

impl HttpClient for Over {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.0.clone()
    }
}

/// A client for what gives credentials.
pub(super) fn https_client(ca: Option<&[u8]>) -> Result<SharedHttpClient, BucketError> {
    let provider = Provider::Rustls(CryptoMode::AwsLc);
    Ok(Builder::new().tls_provider(provider).tls_context(trust(ca)?).build_https())
}

/// Trust in these CAs beside the system's. They were looked at where they were read.
fn trust(ca: Option<&[u8]>) -> Result<TlsContext, BucketError> {
    let system = TrustStore::default();
    tls(match ca {
        Some(ca) => system.with_pem_certificate(ca),
        None => system,
    })
}

fn tls(store: TrustStore) -> Result<TlsContext, BucketError> {
    TlsContext::builder().with_trust_store(store).build().map_err(|error| BucketError {
        operation: "TLS",
        key: String::new(),
        failure: Failure::Refused,
        message: error.to_string(),
    })
}
