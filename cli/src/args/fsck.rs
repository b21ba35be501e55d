//! `niks3 fsck`

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use niks3_protocol::api::fsck::{FsckMode, FsckParams};

const EXAMPLES: &str = "\
Examples:
  niks3 fsck                                       what the bucket lacks, and what it has for nobody
  niks3 fsck --deep                                read every NAR too, and compare its hash
  niks3 fsck --repair --max-delete-percent=5
  niks3 fsck show

Exit code 3 where damage is left.";

/// `niks3 fsck`
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(crate) struct FsckArgs {
    #[command(subcommand)]
    pub(crate) command: Option<FsckCommand>,
    /// What was lost counts as not pushed, so that the next push sends it again, and what leads there is withdrawn;
    /// objects that no push committed are deleted.
    #[arg(long)]
    repair: bool,
    /// Read every NAR and compare its hash.
    #[arg(long)]
    deep: bool,
    /// Repair nothing where more of the objects differ.
    #[arg(long, value_name = "PERCENT", requires = "repair", value_parser = clap::value_parser!(u32).range(1..=100))]
    max_delete_percent: Option<u32>,
    /// Repair nothing where more objects differ.
    #[arg(long, value_name = "COUNT", requires = "repair")]
    max_delete_objects: Option<NonZeroU64>,
    /// Write the run's result here, as one line of JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) result_file: Option<PathBuf>,
    /// Print the run's result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Comparisons there were, and the one there is.
#[derive(Debug, Subcommand)]
pub(crate) enum FsckCommand {
    /// The last comparison, and what it found.
    Show {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// End the running comparison.
    Abort,
}

impl FsckArgs {
    /// As the server takes it.
    pub(crate) fn params(&self) -> FsckParams {
        FsckParams {
            mode: if self.repair { FsckMode::Repair } else { FsckMode::Check },
            deep: self.deep,
            max_delete_percent: self.max_delete_percent,
            max_delete_objects: self.max_delete_objects.map(NonZeroU64::get),
        }
    }
}
