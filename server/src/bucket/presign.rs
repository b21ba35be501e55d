//! Upload addresses: AWS Signature Version 4 in the query string.
//!
//! Source: AWS, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::config::Credentials;
use percent_encoding::utf8_percent_encode;
use time::OffsetDateTime;

use super::sigv4::{Place, QUERY, Signing};
use super::{BucketConfig, BucketError, Encryption};

/// Signs addresses of one bucket with one set of credentials, dated when it was made.
pub struct Presigner {
    place: Place,
    signing: Signing,
    /// The query up to `X-Amz-SignedHeaders`
    query: String,
    /// What a PUT has to have where its client sends along what it is told.
    headers: BTreeMap<String, String>,
    told: Signed,
}

impl Presigner {
    pub(super) fn new(
        config: &BucketConfig,
        credentials: &Credentials,
        now: OffsetDateTime,
        expiry: Duration,
    ) -> Result<Self, BucketError> {
        let place = Place::new(config, config.public_endpoint.as_ref().or(config.endpoint.as_ref()))?;
        let signing = Signing::new(&config.region, credentials, now)?;
        let mut query = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={}&X-Amz-Expires={}",
            utf8_percent_encode(&signing.credential, QUERY),
            signing.instant,
            expiry.as_secs()
        );
        if let Some(token) = credentials.session_token() {
            query = format!("{query}&X-Amz-Security-Token={}", utf8_percent_encode(token, QUERY));
        }
        query.push_str("&X-Amz-SignedHeaders=");
        let encryption = config.encryption.iter().flat_map(Encryption::headers);
        let headers: BTreeMap<String, String> =
            encryption.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let told = Signed::of(&place.host, &headers, &[]);
        Ok(Self { place, signing, query, headers, told })
    }

    /// What each PUT has to have beside its own headers, where the client sends along what it is told.
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.headers
    }

    /// Where to PUT an object. For a client that sends no headers along, S3 goes by the bucket's default.
    pub fn put(&self, key: &str, told: bool) -> String {
        if told { self.signed("PUT", key, "", &self.told) } else { self.address("PUT", key, "") }
    }

    /// Where to PUT exactly these bytes: with any others the request is not the one that was signed, or its checksum
    /// is wrong. The sha256 is in base-64, as the header has it.
    pub fn put_bound(&self, key: &str, length: u64, sha256: &str, told: bool) -> String {
        let length = length.to_string();
        let bytes = [("content-length", length.as_str()), ("x-amz-checksum-sha256", sha256)];
        let none = BTreeMap::new();
        let headers = if told { &self.headers } else { &none };
        self.signed("PUT", key, "", &Signed::of(&self.place.host, headers, &bytes))
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
        self.signed(method, key, more, &Signed::of(&self.place.host, &BTreeMap::new(), &[]))
    }

    fn signed(&self, method: &str, key: &str, more: &str, Signed { names, lines }: &Signed) -> String {
        let Self { place, query, signing, .. } = self;
        let path = place.path(key);
        let query = format!("{query}{}{more}", utf8_percent_encode(names, QUERY));
        let request = format!("{method}\n{path}\n{query}\n{lines}\n{names}\nUNSIGNED-PAYLOAD");
        let signature = signing.signature(&request);
        format!("{}{path}?{query}&X-Amz-Signature={signature}", place.origin)
    }
}

/// The headers that a request has to have: their names, sorted, and a line for each.
struct Signed {
    names: String,
    lines: String,
}

impl Signed {
    fn of(host: &str, headers: &BTreeMap<String, String>, more: &[(&str, &str)]) -> Self {
        let told = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut all: Vec<(&str, &str)> = told.chain(more.iter().copied()).chain([("host", host)]).collect();
        all.sort_unstable();
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        let lines = all.iter().map(|(name, value)| [name, ":", value, "\n"].concat());
        Self { names: names.join(";"), lines: lines.collect() }
    }
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
            bucket: "examplebucket".to_owned(),
            region: "us-east-1".to_owned(),
            ..BucketConfig::default()
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
