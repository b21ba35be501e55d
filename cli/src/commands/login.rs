//! `niks3 login`: keeps a token where the other commands look for one, once the server has taken it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::Command;

use super::CommandError;
use crate::args::GlobalArgs;
use crate::client::{Client, address, default_token_file};
use crate::printer::Printer;
use crate::servers;

/// Longer than any token.
const MOST: u64 = 64 << 10;

pub(super) async fn run(args: &GlobalArgs, name: Option<&str>, printer: Printer) -> Result<(), CommandError> {
    let path = match name {
        Some(name) => servers::token_file(name)?,
        None => default_token_file().ok_or(CommandError::NoHome)?,
    };
    // A name that is known already needs no address.
    let without = args.server.is_none() && args.server_url.is_none();
    let server = name.filter(|_| without).map(str::to_owned).or_else(|| args.server.clone());
    let args = servers::resolve(&GlobalArgs { server, ..args.clone() })?;
    if let Some(name) = name {
        servers::check(name, address(&args)?.as_str().trim_end_matches('/'))?;
    }
    let token = read(printer).map_err(CommandError::Stdin)?;
    if token.is_empty() {
        return Err(CommandError::NoToken);
    }
    let client = Client::new(&args.with_token(&token))?;
    let me = client.whoami().await?;
    write(&path, &token).map_err(|source| CommandError::Write { path: path.clone(), source })?;
    if let Some(name) = name {
        servers::remember(name, client.server().trim_end_matches('/'))?;
    }
    printer.say(&format!("You are {} at {}; the token is in {}", me.identity, client.host(), path.display()));
    Ok(())
}

/// A line of standard input, not shown while it is typed.
fn read(printer: Printer) -> io::Result<String> {
    let terminal = io::stdin().is_terminal();
    let echo = |mode| drop(Command::new("stty").arg(mode).status());
    if terminal {
        printer.say("Paste the token, then press Enter:");
        echo("-echo");
    }
    let mut line = String::new();
    let result = io::Read::take(io::stdin().lock(), MOST).read_line(&mut line);
    if terminal {
        echo("echo");
    }
    result.map(|_| line.trim().to_owned())
}

/// Whole or not at all, and for its owner alone.
fn write(path: &Path, token: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = file.write_all(format!("{token}\n").as_bytes()).and_then(|()| file.sync_all());
    written.and_then(|()| fs::rename(&new, path)).inspect_err(|_| drop(fs::remove_file(&new)))
}
