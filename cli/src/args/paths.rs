//! `niks3 why`, `niks3 du`, `niks3 delete`

use std::path::PathBuf;

use clap::Args as ClapArgs;

const DELETE_EXAMPLES: &str = "\
Examples:
  niks3 delete /nix/store/…-leaked --dry-run     what would go
  niks3 delete ./result                          say that, ask, and delete
  niks3 delete --yes --force /nix/store/…-leaked with its pins, in a script

Whoever has the path in a store of their own keeps it, and a push of it brings it back. What a
CDN in front of the bucket holds is to be purged there.";

/// `niks3 why`
#[derive(Debug, ClapArgs)]
pub(crate) struct WhyArgs {
    /// A store path, a link to one such as ./result, or the 32 digits of one.
    pub(crate) path: PathBuf,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `niks3 du`
#[derive(Debug, ClapArgs)]
pub(crate) struct DuArgs {
    /// So many closures at most.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `niks3 delete`
#[derive(Debug, ClapArgs)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[command(after_help = DELETE_EXAMPLES)]
pub(crate) struct DeleteArgs {
    /// A store path, a link to one such as ./result, or the 32 digits of one.
    pub(crate) path: PathBuf,
    /// Say what would go; delete nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) yes: bool,
    /// Drop the pins that keep it, and end the pushes under way that have it.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print the run's result, or the plan of a dry run, as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
