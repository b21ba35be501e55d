//! How much one caller, one call and all of them may ask for.

use std::fmt::Display;
use std::ops::RangeInclusive;

use anyhow::bail;
use niks3_protocol::api::gc::policy::ByteSize;
use niks3_protocol::duration::GoDuration;
use niks3_protocol::server_config::{LARGEST_NAR, LimitsSection};

use super::text;
use crate::args::LimitArgs;

/// A call has to have some time, and its client waits no longer than this.
const CALL_TIMEOUTS: RangeInclusive<GoDuration> = GoDuration::seconds(1)..=GoDuration::hours(1);
/// More than S3 servers do.
const MAX_RATE: f64 = 100_000.0;

/// The file's limits, changed by arguments.
pub(super) fn limits(args: LimitArgs, file: &LimitsSection) -> anyhow::Result<LimitsSection> {
    let limits = LimitsSection {
        closure_body_bytes: bytes("NIKS3_MAX_CLOSURE_BODY", args.max_closure_body)?
            .unwrap_or(file.closure_body_bytes),
        body_bytes: bytes("NIKS3_MAX_BODY", args.max_body)?.unwrap_or(file.body_bytes),
        objects_per_upload: parse("NIKS3_MAX_UPLOAD_OBJECTS", args.max_upload_objects)?
            .unwrap_or(file.objects_per_upload),
        paths_per_sign: parse("NIKS3_MAX_SIGN_PATHS", args.max_sign_paths)?.unwrap_or(file.paths_per_sign),
        nar_bytes: parse("NIKS3_MAX_NAR_SIZE", args.max_nar_size)?
            .map_or(file.nar_bytes, |ByteSize(bytes)| bytes),
        open_uploads: parse("NIKS3_MAX_UPLOADS", args.max_uploads)?.unwrap_or(file.open_uploads),
        open_uploads_per_identity: parse("NIKS3_MAX_UPLOADS_PER_IDENTITY", args.max_uploads_per_identity)?
            .unwrap_or(file.open_uploads_per_identity),
        call_timeout: parse("NIKS3_CALL_TIMEOUT", args.call_timeout)?.unwrap_or(file.call_timeout),
        calls_per_second: parse("NIKS3_CALLS_PER_SECOND", args.calls_per_second)?
            .unwrap_or(file.calls_per_second),
        calls_burst: parse("NIKS3_CALLS_BURST", args.calls_burst)?.unwrap_or(file.calls_burst),
    };
    for (name, limit) in [
        ("closure_body_bytes", limits.closure_body_bytes),
        ("body_bytes", limits.body_bytes),
        ("objects_per_upload", limits.objects_per_upload),
        ("paths_per_sign", limits.paths_per_sign),
        ("calls_burst", limits.calls_burst as usize),
    ] {
        if limit == 0 {
            bail!("the limit {name} is 0: nobody could push");
        }
    }
    if !(1..=LARGEST_NAR).contains(&limits.nar_bytes) {
        bail!(
            "a NAR may have {} bytes, which is not from 1 to 5Ti, the most that S3 can hold",
            limits.nar_bytes
        );
    }
    if !CALL_TIMEOUTS.contains(&limits.call_timeout) {
        bail!("a call may take {}, which is not from 1s to 1h", limits.call_timeout);
    }
    Ok(limits)
}

/// Requests a second. niks3 1.7 takes fractions.
pub(super) fn s3_rate(given: Option<String>) -> anyhow::Result<Option<u32>> {
    let Some(rate) = parse::<f64>("NIKS3_S3_RATE_LIMIT", given)? else { return Ok(None) };
    if !(0.0..=MAX_RATE).contains(&rate) {
        bail!("NIKS3_S3_RATE_LIMIT={rate} is not a number of requests a second, 0 to {MAX_RATE}");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was just compared")]
    Ok(Some(rate.ceil() as u32))
}

fn parse<T: std::str::FromStr<Err: Display>>(name: &str, given: Option<String>) -> anyhow::Result<Option<T>> {
    let Some(given) = text(given) else { return Ok(None) };
    given.parse().map(Some).map_err(|error| anyhow::anyhow!("{name}={given}: {error}"))
}

/// `1048576`, `512Ki`, `128Mi` or `1Gi`.
fn bytes(name: &str, given: Option<String>) -> anyhow::Result<Option<usize>> {
    let Some(ByteSize(bytes)) = parse(name, given)? else { return Ok(None) };
    Ok(Some(usize::try_from(bytes)?))
}
