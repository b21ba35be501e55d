//! How much one caller, one call and all of them may ask for.

use clap::Args as ClapArgs;

/// Limits. What is left out is the file's, or its default.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Bytes of a body that lists a closure (begin, sign), such as 128Mi.
    #[arg(long, env = "NIKS3_MAX_CLOSURE_BODY", global = true)]
    pub max_closure_body: Option<String>,
    /// Bytes of any other body, such as 1Mi.
    #[arg(long, env = "NIKS3_MAX_BODY", global = true)]
    pub max_body: Option<String>,
    /// Objects of one upload.
    #[arg(long, env = "NIKS3_MAX_UPLOAD_OBJECTS", global = true)]
    pub max_upload_objects: Option<String>,
    /// Narinfos of one sign.
    #[arg(long, env = "NIKS3_MAX_SIGN_PATHS", global = true)]
    pub max_sign_paths: Option<String>,
    /// Bytes of one NAR, uncompressed, such as 50Gi; at most 5Ti.
    #[arg(long, env = "NIKS3_MAX_NAR_SIZE", global = true)]
    pub max_nar_size: Option<String>,
    /// Uploads under way, of all identities; 0 is any number.
    #[arg(long, env = "NIKS3_MAX_UPLOADS", global = true)]
    pub max_uploads: Option<String>,
    /// Uploads under way, of one identity; 0 is any number.
    #[arg(long, env = "NIKS3_MAX_UPLOADS_PER_IDENTITY", global = true)]
    pub max_uploads_per_identity: Option<String>,
    /// How long a call may take.
    #[arg(long, env = "NIKS3_CALL_TIMEOUT", global = true)]
    pub call_timeout: Option<String>,
    /// Calls an identity may make in a second; 0 is any number.
    #[arg(long, env = "NIKS3_CALLS_PER_SECOND", global = true)]
    pub calls_per_second: Option<String>,
    /// Calls an identity may make at once after a pause.
    #[arg(long, env = "NIKS3_CALLS_BURST", global = true)]
    pub calls_burst: Option<String>,
}
