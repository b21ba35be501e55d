//! AWS Signature Version 4, and where the objects of a bucket are: our own, because a begin signs ten thousand addresses
//! (about 3 µs each; the SDK's presigning takes some 50).

use std::net::IpAddr;

use aws_sdk_s3::config::Credentials;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;

use super::{BucketConfig, BucketError, Failure};

/// What SigV4 leaves alone in a query value.
pub(super) const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What S3 leaves alone in a path.
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// Where the objects of a cache are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// `https://host`
    pub(super) origin: String,
    /// As a client's Host header has it.
    pub(super) host: String,
    /// `/bucket/prefix`, encoded
    base: String,
}

impl Place {
    /// Where they are at this origin; at AWS's where it is left out.
    pub(super) fn new(config: &BucketConfig, endpoint: Option<&String>) -> Result<Self, BucketError> {
        let aws = || {
            let partition = if config.region.starts_with("cn-") { ".cn" } else { "" };
            format!("https://s3.{}.amazonaws.com{partition}", config.region)
        };
        let endpoint = endpoint.cloned().unwrap_or_else(aws);
        let (scheme, authority) =
            endpoint.trim_end_matches('/').split_once("://").ok_or_else(|| BucketError {
                operation: "reach",
                key: endpoint.clone(),
                failure: Failure::Refused,
                message: "no scheme: it begins with https:// or http://".to_owned(),
            })?;
        // A client leaves the scheme's own port out of its Host header.
        let authority = match scheme {
            "https" => authority.strip_suffix(":443").unwrap_or(authority),
            _ => authority.strip_suffix(":80").unwrap_or(authority),
        };
        let prefix = utf8_percent_encode(&config.prefix, PATH);
        // As the SDK does: an address has no names below it, and a certificate is for one name below its own.
        let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name);
        let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let unnameable = is_address || (scheme == "https" && config.bucket.contains('.'));
        let (host, base) = if config.path_style || unnameable {
            (authority.to_owned(), format!("/{}/{prefix}", config.bucket))
        } else {
            (format!("{}.{authority}", config.bucket), format!("/{prefix}"))
        };
        Ok(Self { origin: format!("{scheme}://{host}"), host, base })
    }

    /// The path of an object, encoded.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{}{}", self.base, utf8_percent_encode(key, PATH))
    }
}

/// Signs with one set of credentials, dated when it was made.
pub(super) struct Signing {
    /// `20130524T000000Z`
    pub(super) instant: String,
    /// `id/20130524/region/s3/aws4_request`
    pub(super) credential: String,
    /// The lines of the string to sign before the canonical request's hash.
    preamble: String,
    key: Hmac<Sha256>,
}

impl Signing {
    pub(super) fn new(
        region: &str,
        credentials: &Credentials,
        now: OffsetDateTime,
    ) -> Result<Self, BucketError> {
        let stamp = |format| {
            now.format(format).map_err(|error| BucketError {
                operation: "sign for",
                key: region.to_owned(),
                failure: Failure::Refused,
                message: format!("the clock says what is no date: {error}"),
            })
        };
        let date = stamp(format_description!("[year][month][day]"))?;
        let instant = stamp(format_description!("[year][month][day]T[hour][minute][second]Z"))?;
        let scope = format!("{date}/{region}/s3/aws4_request");
        let mut key = hmac_of(format!("AWS4{}", credentials.secret_access_key()).as_bytes());
        for part in [date.as_str(), region, "s3", "aws4_request"] {
            key.update(part.as_bytes());
            key = hmac_of(&key.finalize().into_bytes());
        }
        Ok(Self {
            credential: format!("{}/{scope}", credentials.access_key_id()),
            preamble: format!("AWS4-HMAC-SHA256\n{instant}\n{scope}\n"),
            instant,
            key,
        })
    }

    /// The signature of a canonical request.
    pub(super) fn signature(&self, request: &str) -> String {
        let mut mac = self.key.clone();
        mac.update(self.preamble.as_bytes());
        mac.update(sha256(request.as_bytes()).as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }
}

/// In hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn hmac_of(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC should take a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin_and_path(endpoint: Option<&str>, bucket: &str, region: &str, path_style: bool) -> String {
        let config = BucketConfig {
            bucket: bucket.to_owned(),
            prefix: "a b/".to_owned(),
            region: region.to_owned(),
            path_style,
            ..BucketConfig::default()
        };
        let place = Place::new(&config, endpoint.map(str::to_owned).as_ref()).unwrap();
        format!("{}{}", place.origin, place.path("log/x+y=z"))
    }

    #[test]
    fn objects_are_where_the_sdk_says_they_are() {
        for (endpoint, bucket, region, path_style, expected) in [
            (None, "cache", "eu-west-1", false, "https://cache.s3.eu-west-1.amazonaws.com"),
            (None, "cache", "cn-north-1", false, "https://cache.s3.cn-north-1.amazonaws.com.cn"),
            (None, "my.cache", "eu-west-1", false, "https://s3.eu-west-1.amazonaws.com/my.cache"),
            (Some("https://s3.example:443/"), "cache", "x", true, "https://s3.example/cache"),
            (Some("http://s3.example:9000"), "cache", "x", false, "http://cache.s3.example:9000"),
            (Some("http://s3.example"), "my.cache", "x", false, "http://my.cache.s3.example"),
            (Some("http://[::1]:9000"), "cache", "x", false, "http://[::1]:9000/cache"),
            (Some("http://127.0.0.1:80"), "cache", "x", false, "http://127.0.0.1/cache"),
        ] {
            let found = origin_and_path(endpoint, bucket, region, path_style);
            assert_eq!(found, format!("{expected}/a%20b/log/x%2By%3Dz"));
        }
        let config = BucketConfig::default();
        assert!(Place::new(&config, Some(&"s3.example".to_owned())).is_err());
    }
}
