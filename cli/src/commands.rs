//! From a command to its exit code.

mod delete;
mod doctor;
mod explain;
mod fsck;
mod gc;
mod generate;
mod hook;
mod login;
mod pins;
mod plan;
mod push;
mod use_cache;
mod wait;

use std::process::ExitCode;

use niks3_protocol::duration::GoDuration;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command, HookCommand};
use crate::client::{Client, ClientError};
use crate::printer::{Printer, chain};
use crate::push::PushError;
use crate::servers::{self, ServersError};
use crate::store::StoreError;
use hook::HookError;

/// Wrong usage, configuration or permission; `1` is every other failure.
const USAGE: u8 = 2;
/// `niks3 fsck` compared all, and something is left that is not as it should be.
const DAMAGE: u8 = 3;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Servers(#[from] ServersError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Push(#[from] PushError),
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error(transparent)]
    PinName(#[from] niks3_protocol::api::pins::PinNameError),
    #[error("--pin keeps one closure, but {0} paths were given")]
    PinOfMany(usize),
    #[error("{} not pushed", if *.0 == 1 { "1 path was".to_owned() } else { format!("{} paths were", .0) })]
    NotPushed(usize),
    #[error("the push did not end within {0}")]
    Deadline(GoDuration),
    #[error("the collection failed: {0}")]
    GcFailed(String),
    #[error("the collection was stopped: {0}")]
    GcStopped(String),
    #[error("the comparison failed: {0}")]
    FsckFailed(String),
    #[error("the comparison was stopped: {0}")]
    FsckStopped(String),
    #[error("another comparison is still running after {0:?}")]
    FsckBusy(std::time::Duration),
    #[error("{0} findings are left; --repair makes the way free for what was lost")]
    Damage(u64),
    #[error("{0} findings are left that could not be repaired")]
    Unrepaired(u64),
    #[error("{0}")]
    Held(String),
    #[error("the deletion failed: {0}")]
    DeleteFailed(String),
    #[error("this deletes at once, and nobody is there to ask: give --yes, or --dry-run to look first")]
    NoAnswer,
    #[error("another collection is still running after {0:?}")]
    GcBusy(std::time::Duration),
    #[error("the result file {path} cannot be written")]
    ResultFile { path: std::path::PathBuf, source: std::io::Error },
    #[error("{path} cannot be written")]
    Write { path: std::path::PathBuf, source: std::io::Error },
    #[error("{0} names no key that signs its paths, so Nix would take none of them")]
    Unsigned(String),
    #[error("{} failed", if *.0 == 1 { "1 check".to_owned() } else { format!("{} checks", .0) })]
    Unwell(usize),
    #[error("no token: give it on standard input")]
    NoToken,
    #[error("there is no token to keep: `niks3 login` first, or name one by --auth-token-file")]
    NoTokenToKeep,
    #[error("{0:?}, where Nix is to read from, names no host")]
    NoHost(String),
    #[error("there is no home to keep a token in: set HOME or XDG_CONFIG_HOME")]
    NoHome,
    #[error("standard input cannot be read")]
    Stdin(#[source] std::io::Error),
    #[error("the program cannot start")]
    Start(#[source] std::io::Error),
}

impl CommandError {
    fn client(&self) -> Option<&ClientError> {
        match self {
            Self::Client(error) => Some(error),
            Self::Push(error) => error.client(),
            _ => None,
        }
    }

    /// What to do about it.
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Hook(error) => error.hint(),
            Self::Deadline(_) => Some("the next push goes on where this one stopped"),
            _ => self.client().and_then(ClientError::hint),
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::PinName(_)
            | Self::PinOfMany(_)
            | Self::NoTokenToKeep
            | Self::NoToken
            | Self::NoHome
            | Self::Servers(_)
            | Self::Hook(HookError::Queue { .. } | HookError::Socket { .. } | HookError::InUse(_))
            | Self::GcStopped(_)
            | Self::FsckStopped(_)
            | Self::Held(_)
            | Self::NoAnswer
            | Self::Store(StoreError::NotInStore(_)) => USAGE,
            _ if self.client().is_some_and(ClientError::is_configuration) => USAGE,
            Self::Damage(_) | Self::Unrepaired(_) => DAMAGE,
            _ => 1,
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run(args: Args) -> ExitCode {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(if args.global.debug { "niks3=debug" } else { "off" }));
    let json = matches!(&args.command, Command::Push(push) if push.json);
    let printer = Printer::new(args.global.quiet, json);
    let color = printer.has_color();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color).init();
    let best_effort = matches!(&args.command, Command::Push(push) if push.best_effort);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(blocking_threads(&args.command))
        .build()
        .map_err(CommandError::Start);
    let result = runtime.and_then(|runtime| {
        let result = runtime.block_on(dispatch(args, printer));
        // What still compresses when a push failed or is out of time is of no use to anybody.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if best_effort && error.exit_code() != USAGE => {
            printer.warn(&chain(&error));
            ExitCode::SUCCESS
        }
        Err(error) => {
            printer.fail(&error, error.hint());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Those that compress, and some for what ends soon: each thread costs memory.
fn blocking_threads(command: &Command) -> usize {
    let jobs = match command {
        Command::Push(push) => push.engine.jobs.map_or(0, usize::from),
        Command::Hook(HookCommand::Serve(serve)) => serve.engine.jobs.map_or(0, usize::from),
        _ => 0,
    };
    std::thread::available_parallelism().map_or(2, usize::from).max(jobs) + 4
}

async fn dispatch(args: Args, printer: Printer) -> Result<(), CommandError> {
    let known = || servers::resolve(&args.global);
    let connect = || Ok::<_, CommandError>(Client::new(&known()?)?);
    match args.command {
        Command::Completions { shell } => generate::completions(shell, printer),
        Command::Doctor(command) => doctor::run(&known()?, command, printer).await?,
        Command::Login { name } => login::run(&args.global, name.as_deref(), printer).await?,
        Command::Use { file, netrc } => use_cache::run(&connect()?, file, netrc, printer).await?,
        Command::Man { folder } => generate::man(folder, printer)?,
        Command::Push(command) => push::run(connect()?, command, args.global.no_progress, printer).await?,
        Command::Hook(HookCommand::Send(command)) => hook::send(command, printer).await,
        Command::Hook(HookCommand::Serve(command)) => hook::serve(connect()?, *command, printer).await?,
        Command::Pins(command) => pins::run(&connect()?, command, printer).await?,
        Command::Gc(command) => gc::run(&connect()?, *command, printer).await?,
        Command::Fsck(command) => fsck::run(&connect()?, command, printer).await?,
        Command::Why(command) => explain::why(&connect()?, command, printer).await?,
        Command::Du(command) => explain::du(&connect()?, command, printer).await?,
        Command::Delete(command) => delete::run(&connect()?, command, printer).await?,
        Command::Whoami => {
            let me = connect()?.whoami().await?;
            let permissions: Vec<String> = me.permissions.iter().map(|one| format!("{one:?}")).collect();
            let permissions = if permissions.is_empty() { "none".to_owned() } else { permissions.join(", ") };
            printer.data(&format!("{}\npermissions: {permissions}", me.identity));
            if !me.pins.is_empty() {
                printer.data(&format!("pins: {}", me.pins.join(", ")));
            }
        }
    }
    Ok(())
}
