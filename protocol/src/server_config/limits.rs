//! How much one caller, one call and all of them may ask for.

use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;

/// S3's largest object: 5 TiB.
pub const LARGEST_NAR: u64 = 5 << 40;

/// How much one caller, one call and all of them may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsSection {
    /// Bytes of a body that lists a closure: of begin and sign.
    pub closure_body_bytes: usize,
    /// Bytes of any other body.
    pub body_bytes: usize,
    /// Objects of one upload.
    pub objects_per_upload: usize,
    /// Narinfos of one sign.
    pub paths_per_sign: usize,
    /// Bytes of one NAR, uncompressed: 5 TiB is what S3 can hold.
    pub nar_bytes: u64,
    /// Uploads that all identities may have under way, on all replicas; 0 is any number.
    pub open_uploads: u32,
    /// Uploads that one identity may have under way, on all replicas; 0 is any number.
    pub open_uploads_per_identity: u32,
    /// How long a call may take.
    pub call_timeout: GoDuration,
    /// Calls an identity may make in a second, in the long run and of each replica; 0 is any number.
    pub calls_per_second: u32,
    /// Calls it may make at once after a pause.
    pub calls_burst: u32,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self {
            closure_body_bytes: 128 << 20,
            body_bytes: 1 << 20,
            objects_per_upload: 500_000,
            paths_per_sign: 250_000,
            nar_bytes: LARGEST_NAR,
            open_uploads: 10_000,
            open_uploads_per_identity: 1000,
            call_timeout: GoDuration::seconds(600),
            calls_per_second: 500,
            calls_burst: 5000,
        }
    }
}
