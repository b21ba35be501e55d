//! Flags. No logic.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args as ClapArgs, Parser, Subcommand};
use clap_complete::Shell;
use niks3_protocol::duration::GoDuration;

const GC_EXAMPLES: &str = "\
Examples:
  kubectl niks3 gc nightly -n nix
  kubectl niks3 gc nightly -n nix --dry-run          what would go, and the largest closures of it
  kubectl niks3 gc nightly -n nix --override-safety  after a dry run whose plan is meant";

const ROTATE_EXAMPLES: &str = "\
Examples:
  kubectl niks3 rotate main -n nix                   another key follows: published now, signs later
  kubectl niks3 rotate main -n nix --promote cache.example.org-2
  kubectl niks3 rotate main -n nix --revoke cache.example.org-1 --yes
  kubectl niks3 rotate main -n nix --credentials";

/// Looks after Nix binary caches: how they stand, and the few things that are done by hand.
#[derive(Debug, Parser)]
#[command(name = "kubectl-niks3", bin_name = "kubectl niks3", version, about, long_about = None)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which cluster, as `kubectl` takes it.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArgs {
    /// The namespace; the context's where it is left out.
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// The context of the kubeconfig.
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub(crate) context: Option<String>,
    /// The kubeconfig's file; else $KUBECONFIG, or ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How a cache stands, on one screen: conditions, keys, pods, collections, and what to do.
    Status {
        /// The BinaryCache; all of the namespace in a table where it is left out and there are several.
        cache: Option<String>,
    },
    /// Print the lines of nix.conf by which Nix reads from a cache.
    Use {
        /// The BinaryCache; may be left out where the namespace has one.
        cache: Option<String>,
    },
    /// Collect now, beside the schedule, and say what became of it.
    #[command(after_help = GC_EXAMPLES)]
    Gc(GcArgs),
    /// Let one signing key follow another, or new generated credentials the old ones.
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate(RotateArgs),
    /// Say which closures and pins keep a path, by `niks3 why` in a Job beside the cache.
    Why(WhyArgs),
    /// Bring the tables of a cache's database up to date, by `niks3-server migrate` in a Job made of the server's own pod.
    /// For caches with `database.migrations: Manual`.
    Migrate {
        /// The BinaryCache; may be left out where the namespace has one.
        cache: Option<String>,
    },
    /// Write all that explains a cache into a tar.gz, for those who help. Secrets are not read.
    Report(ReportArgs),
    /// Print the completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// `kubectl niks3 gc`
#[derive(Debug, ClapArgs)]
pub(crate) struct GcArgs {
    /// The GCPolicy; may be left out where the namespace has one.
    pub(crate) policy: Option<String>,
    /// Say what would go, and delete nothing.
    #[arg(long, conflicts_with = "override_safety")]
    pub(crate) dry_run: bool,
    /// Collect this once without the limits of `spec.safety`.
    #[arg(long)]
    pub(crate) override_safety: bool,
    /// Do not wait for the end.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Wait no longer than this; the collection goes on.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    timeout: GoDuration,
}

impl GcArgs {
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.0
    }
}

/// `kubectl niks3 rotate`
#[derive(Debug, ClapArgs)]
#[command(group(ArgGroup::new("change").multiple(false)))]
pub(crate) struct RotateArgs {
    /// The BinaryCache; may be left out where the namespace has one.
    pub(crate) cache: Option<String>,
    /// The new key's name; the last one's with the number behind it counted up where it is left out.
    #[arg(long, value_name = "KEY", group = "change")]
    pub(crate) add: Option<String>,
    /// Let a published key sign now.
    #[arg(long, value_name = "KEY", group = "change")]
    pub(crate) promote: Option<String>,
    /// Let a key sign no more; clients go on trusting what it signed.
    #[arg(long, value_name = "KEY", group = "change")]
    pub(crate) retire: Option<String>,
    /// Take a key back for ever; clients that read the keys anew trust nothing that it alone signed. Needs --yes.
    #[arg(long, value_name = "KEY", group = "change", requires = "yes")]
    pub(crate) revoke: Option<String>,
    /// Take a retired or revoked key out of the list.
    #[arg(long, value_name = "KEY", group = "change")]
    pub(crate) remove: Option<String>,
    /// Let new credentials of the embedded database and S3 server follow the generated ones; no key is touched.
    #[arg(long, group = "change")]
    pub(crate) credentials: bool,
    /// This is meant.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Ask the API server what it would say, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `kubectl niks3 why`
#[derive(Debug, ClapArgs)]
pub(crate) struct WhyArgs {
    /// The store path, or its hash.
    pub(crate) path: String,
    /// The BinaryCache; may be left out where the namespace has one.
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache: Option<String>,
}

/// `kubectl niks3 report`
#[derive(Debug, ClapArgs)]
pub(crate) struct ReportArgs {
    /// The BinaryCache; may be left out where the namespace has one.
    pub(crate) cache: Option<String>,
    /// The file; niks3-report-NAMESPACE-CACHE.tar.gz where it is left out.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Lines of each log.
    #[arg(long, value_name = "COUNT", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) lines: u32,
    /// Where the operator runs.
    #[arg(long, value_name = "NAMESPACE", default_value = "niks3-system")]
    pub(crate) operator_namespace: String,
}
