//! `niks3 hook`. The names of niks3-hook 1.7 are kept.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use niks3_protocol::duration::GoDuration;

use super::EngineArgs;

const EXAMPLES: &str = "\
Examples:
  niks3 hook serve                               the service, in the background
  post-build-hook = /etc/nix/push                a line of nix.conf, where /etc/nix/push is
                                                 #!/bin/sh
                                                 exec niks3 hook send

SIGTERM and SIGINT end the service once all is pushed that is queued; a second one leaves the
rest in the queue. Exit code 1 where some is left; the next start pushes it.";

const SOCKET: &str = "/run/niks3/upload-to-cache.sock";

/// Nix's own folder of roots: what its links lead to is not collected before it is pushed.
const QUEUE: &str = "/nix/var/nix/gcroots/niks3-hook";

/// `niks3 hook`
#[derive(Debug, Subcommand)]
pub(crate) enum HookCommand {
    /// Queue paths: Nix's post-build-hook. Whatever fails, the exit code is 0, so that no build fails.
    #[command(after_help = EXAMPLES)]
    Send(SendArgs),
    /// Push what is queued, and keep it until it is pushed.
    #[command(after_help = EXAMPLES)]
    Serve(Box<ServeArgs>),
}

/// `niks3 hook send`
#[derive(Debug, ClapArgs)]
pub(crate) struct SendArgs {
    /// Socket of `niks3 hook serve`.
    #[arg(long, default_value = SOCKET, value_name = "FILE")]
    pub(crate) socket: PathBuf,
    /// Store paths; Nix gives them in the variable, separated by spaces.
    #[arg(env = "OUT_PATHS", value_name = "PATH")]
    pub(crate) paths: Vec<String>,
    /// Derivation whose outputs are meant where no paths are given: some versions of Nix give its hook this alone.
    #[arg(long, env = "DRV_PATH", value_name = "FILE")]
    pub(crate) derivation: Option<String>,
}

/// `niks3 hook serve`
#[derive(Debug, ClapArgs)]
pub(crate) struct ServeArgs {
    /// Socket that paths come by, unless systemd opened it.
    #[arg(long, default_value = SOCKET, value_name = "FILE")]
    pub(crate) socket: PathBuf,
    /// Folder with a link to each path that is not pushed yet. In Nix's folder of roots, as by default, nothing of it is
    /// collected before.
    #[arg(long, default_value = QUEUE, value_name = "FOLDER")]
    pub(crate) queue: PathBuf,
    /// Database of niks3-hook 1.7; the queue is a folder beside it.
    #[arg(long, hide = true, conflicts_with = "queue")]
    pub(crate) db_path: Option<PathBuf>,
    /// Paths in one push at most.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) batch_size: u16,
    /// End when nothing came for so long and the queue is empty; 0 is never. Default: 60s where systemd opened the socket, else
    /// never.
    #[arg(long, value_name = "DURATION")]
    pub(crate) idle_exit_timeout: Option<GoDuration>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}
