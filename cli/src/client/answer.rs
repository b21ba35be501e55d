//! What an answer says of who gave it, and why.

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION};

use super::retry;

/// What shows that an answer is not a niks3 server's. A gateway before one may send pages of its own while the
/// server is away, so a status that may pass shows nothing.
pub(super) fn foreign(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if status.is_redirection() {
        return Some(format!("it redirects to {}", text(LOCATION)));
    }
    let kind = text(CONTENT_TYPE);
    let page = kind.contains("html") || kind.contains("xml");
    (page && !retry::is_passing(status)).then(|| format!("it sent a web page with status {status}"))
}

/// Of what may be many.
pub(super) fn first_line(text: &str) -> String {
    let line: String = text.lines().next().unwrap_or_default().chars().take(300).collect();
    if line.is_empty() || line.starts_with('<') { "no reason was given".to_owned() } else { line }
}

/// What is between a tag and the next one in S3's XML.
fn part<'a>(xml: &'a str, tag: &str) -> Option<&'a str> {
    xml.split_once(&format!("<{tag}>"))?.1.split('<').next()
}

/// Whether S3 says that a body does not fit its checksum: `BadDigest`, or `XAmzContentChecksumMismatch` of MinIO.
pub(super) fn is_of_checksum(xml: &str) -> bool {
    part(xml, "Code").is_some_and(|code| code == "BadDigest" || code.ends_with("Mismatch"))
}

/// The code and message of S3's XML.
pub(super) fn s3_message(xml: &str) -> String {
    match (part(xml, "Code"), part(xml, "Message")) {
        (Some(code), Some(message)) => format!("S3 refused the upload: {code}: {message}"),
        _ => "S3 refused the upload".to_owned(),
    }
}
