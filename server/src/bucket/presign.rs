//! Upload addresses: AWS Signature Version 4 in the query string, our own because a begin signs ten
//! thousand of them (about 3 µs each; the SDK's presigning takes some 50).
//!
//! Source: AWS, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".

use std::time::Duration;

use aws_sdk_s3::config::Credentials;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;

use super::{BucketConfig, BucketError, Failure};

/// What SigV4 leaves alone in a query value.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What S3 leaves alone in a path.
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// Signs addresses of one bucket with one set of credentials, dated when it was made.
pub struct Presigner {
    /// `https://host`
    origin: String,
    host: String,
    /// `/bucket/prefix`, encoded
    base: String,
    /// The query up to `X-Amz-SignedHeaders`
    query: String,
    /// The lines of the string to sign before the canonical request's hash
    preamble: String,
    key: Hmac<Sha256>,
}

impl Presigner {
    pub(super) fn new(
        config: &BucketConfig,
        credentials: &Credentials,
        now: OffsetDateTime,
        expiry: Duration,
    ) -> Result<Self, BucketError> {
        let endpoint = config.public_endpoint.as_ref().or(config.endpoint.as_ref()).cloned();
        let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{}.amazonaws.com", config.region));
        let refused = |message: &str| BucketError {
            operation: "presign for",
            key: endpoint.clone(),
            failure: Failure::Refused,
            message: message.to_owned(),
        };
        let (scheme, authority) =
            endpoint.trim_end_matches('/').split_once("://").ok_or_else(|| refused("no scheme"))?;
        // A client leaves the scheme's own port out of its Host header.
        let authority = match scheme {
            "https" => authority.strip_suffix(":443").unwrap_or(authority),
            _ => authority.strip_suffix(":80").unwrap_or(authority),
        };
        let prefix = utf8_percent_encode(&config.prefix, PATH);
        let (host, base) = if config.path_style {
            (authority.to_owned(), format!("/{}/{prefix}", config.bucket))
        } else {
            (format!("{}.{authority}", config.bucket), format!("/{prefix}"))
        };
        let stamp = |format| now.format(format).map_err(|_| refused("no date"));
        let date = stamp(format_description!("[year][month][day]"))?;
        let instant = stamp(format_description!("[year][month][day]T[hour][minute][second]Z"))?;
        let scope = format!("{date}/{}/s3/aws4_request", config.region);
        let credential = format!("{}/{scope}", credentials.access_key_id());
        let mut query = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={instant}&X-Amz-Expires={}",
            utf8_percent_encode(&credential, QUERY),
            expiry.as_secs()
        );
        if let Some(token) = credentials.session_token() {
            query = format!("{query}&X-Amz-Security-Token={}", utf8_percent_encode(token, QUERY));
        }
        query.push_str("&X-Amz-SignedHeaders=");
        let mut key = hmac_of(format!("AWS4{}", credentials.secret_access_key()).as_bytes());
        for part in [&date, &config.region, "s3", "aws4_request"] {
            key.update(part.as_bytes());
            key = hmac_of(&key.finalize().into_bytes());
        }
        Ok(Self {
            origin: format!("{scheme}://{host}"),
            host,
            base,
            query,
            preamble: format!("AWS4-HMAC-SHA256\n{instant}\n{scope}\n"),
            key,
        })
    }

    /// Where to PUT an object.
    pub fn put(&self, key: &str) -> String {
        self.address("PUT", key, "")
    }

    /// Where to PUT exactly these bytes: with any others the request is not the one that was signed, or its checksum
    /// is wrong. The sha256 is in base-64, as the header has it.
    pub fn put_bound(&self, key: &str, length: u64, sha256: &str) -> String {
        let signed = Signed {
            names: "content-length;host;x-amz-checksum-sha256",
            lines: format!("content-length:{length}\nhost:{}\nx-amz-checksum-sha256:{sha256}\n", self.host),
        };
        self.signed("PUT", key, "", &signed)
    }

    /// Where to read an object, by a method as it is written in a request.
    pub fn read(&self, method: &str, key: &str) -> String {
        self.address(method, key, "")
    }

    /// Where to PUT one part of a multipart upload.
    pub fn part(&self, key: &str, upload_id: &str, part_number: u32) -> String {
        let upload_id = utf8_percent_encode(upload_id, QUERY);
        self.address("PUT", key, &format!("&partNumber={part_number}&uploadId={upload_id}"))
    }

    fn address(&self, method: &str, key: &str, more: &str) -> String {
        self.signed(method, key, more, &Signed { names: "host", lines: format!("host:{}\n", self.host) })
    }

    fn signed(&self, method: &str, key: &str, more: &str, Signed { names, lines }: &Signed) -> String {
        let Self { origin, base, query, preamble, key: signing_key, .. } = self;
        let path = format!("{base}{}", utf8_percent_encode(key, PATH));
        let query = format!("{query}{}{more}", utf8_percent_encode(names, QUERY));
        let request = format!("{method}\n{path}\n{query}\n{lines}\n{names}\nUNSIGNED-PAYLOAD");
        let mut mac = signing_key.clone();
        mac.update(preamble.as_bytes());
        mac.update(hex::encode(Sha256::digest(request.as_bytes())).as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        format!("{origin}{path}?{query}&X-Amz-Signature={signature}")
    }
}

/// The headers that a request has to have: their names, sorted, and a line for each.
struct Signed {
    names: &'static str,
    lines: String,
}

fn hmac_of(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC should take a key of any length")
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    /// AWS's own worked example of a presigned GET, signature included.
    #[test]
    fn signs_as_the_aws_example_does() {
        let config = BucketConfig {
            endpoint: Some("https://s3.amazonaws.com".to_owned()),
            public_endpoint: None,
            bucket: "examplebucket".to_owned(),
            prefix: String::new(),
            region: "us-east-1".to_owned(),
            path_style: false,
            credentials: None,
            web_identity: None,
            request_timeout: Duration::from_secs(30),
            create_bucket: false,
            ca: None,
            rate_limit: 0,
        };
        let (id, secret) = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        let credentials = Credentials::new(id, secret, None, None, "test");
        let now = datetime!(2013-05-24 00:00:00 UTC);
        let presigner = Presigner::new(&config, &credentials, now, Duration::from_hours(24)).unwrap();
        assert_eq!(
            presigner.address("GET", "test.txt", ""),
            "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }
}
