//! An address of S3 by which an object may be read for an hour, for who proxies without credentials of its own.

use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

/// What may stand in a query as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Path and query of `GET /bucket/key` at `host`.
pub(crate) fn get(host: &str, path: &str, access_key: &str, secret_key: &str) -> anyhow::Result<String> {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    let now = OffsetDateTime::now_utc().format(format)?;
    let day = &now[..8];
    let scope = format!("{day}/us-east-1/s3/aws4_request");
    let credential = format!("{access_key}/{scope}");
    let query = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={now}&X-Amz-Expires=3600\
         &X-Amz-SignedHeaders=host",
        utf8_percent_encode(&credential, QUERY)
    );
    let request = format!("GET\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
    let digest = hex::encode(Sha256::digest(request));
    let text = format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}");
    let mut key = format!("AWS4{secret_key}").into_bytes();
    for part in [day, "us-east-1", "s3", "aws4_request"] {
        key = signed(&key, part)?;
    }
    let signature = hex::encode(signed(&key, &text)?);
    Ok(format!("{path}?{query}&X-Amz-Signature={signature}"))
}

fn signed(key: &[u8], text: &str) -> anyhow::Result<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key)?;
    mac.update(text.as_bytes());
    Ok(mac.finalize().into_bytes().to_vec())
}
