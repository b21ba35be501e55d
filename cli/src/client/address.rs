//! What a presigned address says of itself.

use reqwest::Url;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, PrimitiveDateTime};

/// As AWS's signatures write an instant.
const STAMP: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");

/// Whether an upload failed because its address is too old. Not every S3 server says so: Ceph gives no reason.
pub(super) fn is_over(url: &Url, said: &str) -> bool {
    said.to_ascii_lowercase().contains("expired") || has_expired(url, OffsetDateTime::now_utc())
}

/// Whether its time is over by this machine's clock. Asked only after a failure: S3 servers refuse such a request
/// before they have read it, and the refusal may be lost with the connection.
fn has_expired(url: &Url, now: OffsetDateTime) -> bool {
    let value =
        |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let signed = value("X-Amz-Date").and_then(|date| PrimitiveDateTime::parse(&date, STAMP).ok());
    let lasts = value("X-Amz-Expires").and_then(|seconds| seconds.parse().ok());
    match (signed, lasts) {
        (Some(signed), Some(seconds)) => now >= signed.assume_utc() + Duration::seconds(seconds),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn an_address_says_when_it_ends() {
        let url = "https://s3/b/k?X-Amz-Date=20261121T080000Z&X-Amz-Expires=3600&X-Amz-Signature=x";
        let at = |now| has_expired(&url.parse().unwrap(), now);
        assert!(!at(datetime!(2026-11-21 08:59:59 UTC)) && at(datetime!(2026-11-21 09:00:00 UTC)));
        let other = "https://s3/b/k?X-Amz-Date=soon&X-Amz-Expires=3600".parse().unwrap();
        assert!(!has_expired(&other, datetime!(2099-01-01 00:00:00 UTC)));
    }
}
