//! How any push goes: what `niks3 push` and `niks3 hook serve` have in common.

use clap::Args as ClapArgs;
use niks3_protocol::duration::GoDuration;

use super::some_time;

/// How a push goes.
#[derive(Debug, ClapArgs)]
pub(crate) struct EngineArgs {
    /// Ask the bucket even for what the server knows to be there.
    #[arg(long)]
    pub(crate) verify_s3_integrity: bool,
    /// Requests to S3 under way at a time.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) max_concurrent_uploads: u16,
    /// Level of zstd.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19))]
    pub(crate) compression_level: i32,
    /// Paths compressed at a time; the machine's cores where it is left out.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// One request may take so long, then it is tried again.
    #[arg(long, value_name = "DURATION", value_parser = some_time)]
    pub(crate) timeout: Option<GoDuration>,
}
