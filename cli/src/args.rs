//! The whole command surface. The names of niks3 1.7 are kept.

mod engine;
mod fsck;
mod gc;
mod hook;
mod paths;

use std::path::PathBuf;

use clap::builder::{FalseyValueParser, OsStringValueParser, TypedValueParser};
use clap::{Args as ClapArgs, Parser, Subcommand};
use clap_complete::Shell;
use niks3_protocol::duration::{DurationError, GoDuration};

pub(crate) use engine::EngineArgs;
pub(crate) use fsck::{FsckArgs, FsckCommand};
pub(crate) use gc::{GcArgs, GcCommand};
pub(crate) use hook::{HookCommand, SendArgs, ServeArgs};
pub(crate) use paths::{DeleteArgs, DuArgs, WhyArgs};

const EXAMPLES: &str = "\
Examples:
  niks3 push ./result                       push a build and all it needs
  niks3 push --pin ci-main ./result         and keep it until the pin moves
  niks3 pins list
  niks3 gc --older-than=720h

Exit codes: 0 done, 1 failed, 2 wrong usage, configuration or permission,
3 `fsck` found damage and it is left.";

/// Both ways to name paths: what clap makes of the arguments leaves out the second one.
const PUSH_USAGE: &str = "\
niks3 push [OPTIONS] <PATH>...
       niks3 push [OPTIONS] --stdin";

const PUSH_EXAMPLES: &str = "\
Examples:
  niks3 push ./result                            push a build and all it needs
  niks3 push --pin ci-main ./result              and keep it until the pin moves
  nix build --print-out-paths | niks3 push --stdin
  niks3 push --best-effort --deadline 10m ./result
                                                 a slow cache must not fail the job
  niks3 push --keep-going --json $(nix-store -qR ./result)

A push that was interrupted goes on where it was: run it again.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  niks3 doctor                                   before the first push, or when something fails
  niks3 doctor --no-push                         where this machine only reads
  niks3 doctor --json | jq 'select(.status == \"fail\")'

It pushes a path of a few bytes, which the next collection takes. Exit code 1 where a check fails.";

const USE_EXAMPLES: &str = "\
Examples:
  niks3 use                                      print them
  niks3 use --file ~/.config/nix/nix.conf        for a trusted user
  sudo niks3 use --file /etc/nix/nix.conf        for the whole machine
  sudo niks3 use --file /etc/nix/nix.conf --netrc /etc/nix/netrc
                                                 a private cache";

const COMPLETION_EXAMPLES: &str = "\
Examples:
  niks3 completions bash > ~/.local/share/bash-completion/completions/niks3
  niks3 completions zsh > ~/.zfunc/_niks3
  niks3 completions fish > ~/.config/fish/completions/niks3.fish";

/// Pushes Nix closures straight to S3, pins them, collects what nothing keeps.
#[derive(Debug, Parser)]
#[command(name = "niks3", version, about, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
}

/// Which cache, who is calling, and how much is said.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct GlobalArgs {
    /// Server of the cache, by its name in $XDG_CONFIG_HOME/niks3/config.toml or by its URL; counts more than
    /// --server-url. Where neither is given, the file's default.
    #[arg(long, global = true, value_name = "NAME|URL")]
    pub(crate) server: Option<String>,
    /// Server of the cache.
    #[arg(long, env = "NIKS3_SERVER_URL", global = true, value_name = "URL")]
    pub(crate) server_url: Option<String>,
    /// File with the token; read anew when it changes. Default: $XDG_CONFIG_HOME/niks3/auth-token.
    #[arg(long, alias = "auth-token-path", env = "NIKS3_AUTH_TOKEN_FILE", value_parser = file(), global = true,
        value_name = "FILE")]
    pub(crate) auth_token_file: Option<PathBuf>,
    /// The token itself, for where a file is not possible.
    #[arg(env = "NIKS3_AUTH_TOKEN", hide_env_values = true, long = "auth-token", hide = true, global = true)]
    pub(crate) auth_token: Option<String>,
    /// Command that prints a token, or {"token", "expires_at"}; run again when that is over.
    #[arg(long, env = "NIKS3_AUTH_TOKEN_COMMAND", global = true, value_name = "COMMAND")]
    pub(crate) auth_token_command: Option<String>,
    /// Certificates to trust beside the system's, in PEM.
    #[arg(long, env = "NIKS3_CA_CERT", value_parser = file(), global = true, value_name = "FILE")]
    pub(crate) ca_cert: Option<PathBuf>,
    /// Client certificate, in PEM.
    #[arg(long, env = "NIKS3_CLIENT_CERT", value_parser = file(), global = true, value_name = "FILE")]
    pub(crate) client_cert: Option<PathBuf>,
    /// Key of the client certificate, in PEM.
    #[arg(long, env = "NIKS3_CLIENT_KEY", value_parser = file(), global = true, value_name = "FILE")]
    pub(crate) client_key: Option<PathBuf>,
    /// Say only what went wrong.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Lines instead of a progress bar.
    #[arg(long, env = "NIKS3_NO_PROGRESS", value_parser = FalseyValueParser::new(), global = true)]
    pub(crate) no_progress: bool,
    /// Say what is tried again, and why.
    #[arg(long, global = true)]
    pub(crate) debug: bool,
}

/// A path. An empty variable gives an empty one, which counts as absent.
fn file() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// A duration in which something can happen.
fn some_time(text: &str) -> Result<GoDuration, String> {
    let time: GoDuration = text.parse().map_err(|error: DurationError| error.to_string())?;
    if time.0.is_zero() { Err("no time at all".to_owned()) } else { Ok(time) }
}

impl GlobalArgs {
    /// The same, calling with this token and no other.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { auth_token: Some(token.to_owned()), auth_token_file: None, ..self.clone() }
    }

    /// The file, unless its variable is empty.
    pub(crate) fn given(file: Option<&PathBuf>) -> Option<&PathBuf> {
        file.filter(|path| !path.as_os_str().is_empty())
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Push store paths and all they need.
    #[command(after_help = PUSH_EXAMPLES, override_usage = PUSH_USAGE)]
    Push(PushArgs),
    /// Push what Nix builds while it goes on building.
    #[command(subcommand)]
    Hook(HookCommand),
    /// Names that keep closures.
    #[command(subcommand)]
    Pins(PinsCommand),
    /// Collect what nothing keeps.
    Gc(Box<GcArgs>),
    /// Compare the bucket with the database, and repair what differs.
    Fsck(FsckArgs),
    /// What keeps a path, by which rule and through which paths, and when it would go.
    Why(WhyArgs),
    /// Which closures take the space.
    Du(DuArgs),
    /// Delete a path and all that depends on it, at once: a leaked secret.
    Delete(DeleteArgs),
    /// Who the server thinks you are, and what you may do.
    Whoami,
    /// Check the set-up from end to end, and say what to change.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Keep a token, read from standard input, for all other commands.
    Login {
        /// Keep it for this server alone, which --server names so from now on.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Print the lines of nix.conf by which Nix reads from the cache.
    #[command(after_help = USE_EXAMPLES)]
    Use {
        /// Add what is missing to this file in place of printing it.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Keep the token in this netrc file, by which Nix reads a private cache; other entries stay as they are.
        #[arg(long, value_name = "FILE")]
        netrc: Option<PathBuf>,
    },
    /// Print the completions for a shell.
    #[command(after_help = COMPLETION_EXAMPLES)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page.
    Man {
        /// Write this page and one for each command into a folder.
        #[arg(long, value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
}

/// `niks3 push`
#[derive(Debug, ClapArgs)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct PushArgs {
    /// Store paths, or links to them such as ./result.
    #[arg(required_unless_present = "stdin", value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Read paths from standard input, one a line, and push them as they come.
    #[arg(long, conflicts_with_all = ["paths", "pin"])]
    pub(crate) stdin: bool,
    /// Keep the closure under this name, in place of what the name kept before.
    #[arg(long, value_name = "NAME")]
    pub(crate) pin: Option<String>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Push what can be pushed: a path that fails stops only what needs it. What failed is listed; exit code 1.
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// The push may take so long; the next one goes on where it stopped.
    #[arg(long, value_name = "DURATION", value_parser = some_time)]
    pub(crate) deadline: Option<GoDuration>,
    /// A push that fails or takes too long is a warning, exit code 0. Wrong usage and permissions still fail.
    #[arg(long)]
    pub(crate) best_effort: bool,
    /// Print an object for each path as it finishes, and a summary last, one a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `niks3 doctor`
#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    /// Push no test path, so that nothing is asked of the bucket.
    #[arg(long)]
    pub(crate) no_push: bool,
    /// Print an object for each check, one a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `niks3 pins`
#[derive(Debug, Subcommand)]
pub(crate) enum PinsCommand {
    /// Keep a pushed closure under a name.
    Create {
        /// 1 to 256 of A-Z a-z 0-9 . _ -
        name: String,
        /// Its store path, or a link to it.
        path: PathBuf,
    },
    /// List all pins.
    List {
        /// Only their names.
        #[arg(long, conflicts_with = "json")]
        names_only: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove a name.
    Delete {
        /// The name.
        name: String,
    },
}
