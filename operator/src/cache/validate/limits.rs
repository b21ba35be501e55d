//! How much callers may ask for, what they upload, and how fast stored narinfos are signed again, as the server takes them.

use niks3_protocol::api::gc::policy::ByteSize;
use niks3_protocol::server_config::{
    LARGEST_NAR, LimitsSection, ResignMode, ResignSection, UploadsSection, VerifyUploads as ServerVerify,
};

use crate::crd::binary_cache::{BoundAddresses, Resign, Rotation, ServerLimits, Uploads, VerifyUploads};
use crate::crd::conditions::Reason;
use crate::crd::schema::Quantity;

use super::{Invalid, parse};

pub(super) fn limits(wanted: &ServerLimits, uploads: &Uploads) -> Result<LimitsSection, Invalid> {
    let body = bytes("server.limits.closureBodySize", &wanted.closure_body_size)?;
    let nar = bytes("server.uploads.maxNarSize", &uploads.max_nar_size)?;
    if !(1..=LARGEST_NAR).contains(&nar) {
        // The API server refuses this; it may have been stored under an older schema.
        return Err(invalid("server.uploads.maxNarSize", "from 1Mi to 5Ti"));
    }
    Ok(LimitsSection {
        closure_body_bytes: usize::try_from(body).unwrap_or(usize::MAX),
        nar_bytes: nar,
        objects_per_upload: count(wanted.objects_per_upload),
        paths_per_sign: count(wanted.paths_per_sign),
        open_uploads: wanted.open_uploads.unsigned_abs(),
        open_uploads_per_identity: wanted.open_uploads_per_identity.unsigned_abs(),
        call_timeout: parse("server.limits.callTimeout", &wanted.call_timeout)?,
        calls_per_second: wanted.calls_per_second.unsigned_abs(),
        calls_burst: wanted.calls_burst.unsigned_abs(),
        ..LimitsSection::default()
    })
}

fn bytes(field: &str, size: &Quantity) -> Result<u64, Invalid> {
    let size: Result<ByteSize, _> = size.0.parse();
    size.map(|ByteSize(bytes)| bytes).map_err(|error| invalid(field, &error.to_string()))
}

fn invalid(field: &str, error: &str) -> Invalid {
    Invalid { reason: Reason::InvalidSpec, message: format!("{field}: {error}") }
}

pub(super) fn uploads(wanted: &Uploads) -> UploadsSection {
    UploadsSection {
        verify: match wanted.verify {
            VerifyUploads::None => ServerVerify::None,
            VerifyUploads::Head => ServerVerify::Head,
            VerifyUploads::Hash => ServerVerify::Hash,
        },
        bound: wanted.bound_addresses == BoundAddresses::Enabled,
    }
}

pub(super) fn resign(wanted: &Rotation) -> ResignSection {
    ResignSection {
        mode: match wanted.resign {
            Resign::Background => ResignMode::Auto,
            Resign::None => ResignMode::Manual,
        },
        rate: wanted.resign_per_second.unsigned_abs(),
        concurrency: count(wanted.resign_concurrency).max(1),
    }
}

fn count(number: i32) -> usize {
    usize::try_from(number).unwrap_or_default()
}
