//! How much callers may ask for, what they upload, and how fast stored narinfos are signed again, as the server takes them.

use niks3_protocol::api::gc::policy::ByteSize;
use niks3_protocol::server_config::{
    LimitsSection, ResignMode, ResignSection, UploadsSection, VerifyUploads as ServerVerify,
};

use crate::crd::binary_cache::{BoundAddresses, Resign, Rotation, ServerLimits, Uploads, VerifyUploads};
use crate::crd::conditions::Reason;

use super::{Invalid, parse};

pub(super) fn limits(wanted: &ServerLimits) -> Result<LimitsSection, Invalid> {
    let size = &wanted.closure_body_size.0;
    let bytes = size.parse::<ByteSize>().map_err(|error| error.to_string());
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes.0).map_err(|error| error.to_string()));
    let invalid = |error: String| Invalid {
        reason: Reason::InvalidSpec,
        message: format!("server.limits.closureBodySize: {error}"),
    };
    Ok(LimitsSection {
        closure_body_bytes: bytes.map_err(invalid)?,
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
