//! `niks3 gc`

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use niks3_protocol::api::gc::GcParams;
use niks3_protocol::api::gc::policy::{ByteSize, PinRule};
use niks3_protocol::duration::GoDuration;

/// What niks3 1.7 takes where no rule is given.
const DEFAULT_AGE: GoDuration = GoDuration::hours(720);

const EXAMPLES: &str = "\
Examples:
  niks3 gc --older-than=720h --dry-run             what would go, and why
  niks3 gc --older-than=720h --keep-if-read-within=336h
  niks3 gc --max-size=2Ti --max-delete-percent=30
  niks3 gc --pin-rule=prefix=ci-,keep-last=20,max-age=336h --pin-rule=prefix=main,keep-revisions=3
  niks3 gc list";

/// `niks3 gc`
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(crate) struct GcArgs {
    #[command(subcommand)]
    pub(crate) command: Option<GcCommand>,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// Write the run's result here, as one line of JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) result_file: Option<PathBuf>,
    /// Print the run's result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Collections there were, and the one there is.
#[derive(Debug, Subcommand)]
pub(crate) enum GcCommand {
    /// The last collections, the newest first.
    List {
        /// So many at most.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// One collection with its plan: what went or would go, and why.
    Show {
        /// Its number, as `niks3 gc list` says it.
        id: i64,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// End the running collection. The next one goes on where it was.
    Abort,
}

/// What a collection is to keep.
#[derive(Debug, ClapArgs)]
pub(crate) struct PolicyArgs {
    /// Closures not pushed or refreshed for so long go, unless another rule keeps them. 720h where neither this nor
    /// another rule is given.
    #[arg(long, value_name = "DURATION")]
    older_than: Option<GoDuration>,
    /// The closures longest unused go until the others take no more than this, such as 500Gi. Pinned ones stay.
    #[arg(long, value_name = "SIZE")]
    max_size: Option<ByteSize>,
    /// What was used more recently stays, whatever --max-size says; 24h where it is left out.
    #[arg(long, value_name = "DURATION", requires = "max_size")]
    min_age: Option<GoDuration>,
    /// What was read through the server within so long stays.
    #[arg(long, value_name = "DURATION")]
    keep_if_read_within: Option<GoDuration>,
    /// Which pins stay of those whose names begin so: prefix=ci-,keep-last=20,max-age=336h,keep-revisions=3. May be
    /// given for several prefixes; the longest counts. A pin without a rule stays for ever.
    #[arg(long = "pin-rule", value_name = "RULE")]
    pin_rules: Vec<PinRule>,
    /// Stop before anything is deleted where more of the live objects would go.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    max_delete_percent: Option<u32>,
    /// Stop before anything is deleted where more live objects would go.
    #[arg(long, value_name = "COUNT")]
    max_delete_objects: Option<NonZeroU64>,
    /// Unfinished uploads begun so long ago go.
    #[arg(long, default_value = "6h", value_name = "DURATION")]
    failed_uploads_older_than: GoDuration,
    /// How long an object stays after nothing reaches it any more; the age of failed uploads where it is left out.
    #[arg(long, value_name = "DURATION")]
    deletion_grace: Option<GoDuration>,
    /// Delete at once what nothing reaches. Safe while others push.
    #[arg(long)]
    force: bool,
    /// Say what would go, and why; delete nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl PolicyArgs {
    /// As the server takes it.
    pub(crate) fn params(&self) -> GcParams {
        let drops = self.max_size.is_some() || self.pin_rules.iter().any(PinRule::drops_names);
        GcParams {
            older_than: self.older_than.or((!drops).then_some(DEFAULT_AGE)),
            failed_uploads_older_than: self.failed_uploads_older_than,
            force: self.force,
            deletion_grace: self.deletion_grace,
            max_size: self.max_size.map(|size| size.0),
            min_age: self.min_age,
            keep_if_read_within: self.keep_if_read_within,
            pin_rules: self.pin_rules.clone(),
            max_delete_percent: self.max_delete_percent,
            max_delete_objects: self.max_delete_objects.map(NonZeroU64::get),
            dry_run: self.dry_run,
            delete: None,
        }
    }
}
