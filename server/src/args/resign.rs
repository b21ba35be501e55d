//! Signing stored narinfos again.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use niks3_protocol::server_config::ResignMode;

use super::values::resign_mode;

/// Signing stored narinfos again. What is left out is the file's, or its default.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Signing again")]
pub struct ResignArgs {
    /// Public keys, separated by white space, whose signatures are taken out of stored narinfos.
    #[arg(long, env = "NIKS3_REVOKED_KEYS", global = true)]
    pub revoked_keys: Option<String>,
    /// File with more of them; read again when it changes.
    #[arg(long, env = "NIKS3_REVOKED_KEYS_FILE", global = true)]
    pub revoked_keys_file: Option<PathBuf>,
    /// Whether stored narinfos are signed again when the keys that sign change: auto or manual.
    #[arg(long, env = "NIKS3_RESIGN", value_parser = resign_mode, global = true)]
    pub resign: Option<ResignMode>,
    /// Narinfos written in a second at most; 0 is any number.
    #[arg(long, env = "NIKS3_RESIGN_RATE", global = true)]
    pub resign_rate: Option<String>,
    /// Writes under way at a time.
    #[arg(long, env = "NIKS3_RESIGN_CONCURRENCY", global = true)]
    pub resign_concurrency: Option<String>,
}
