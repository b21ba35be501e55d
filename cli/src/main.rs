//! `niks3`: pushes Nix closures straight to S3, pins them, collects what nothing keeps.

mod args;
mod client;
mod commands;
mod nar;
mod printer;
mod progress;
mod push;
mod servers;
mod store;

use std::ffi::OsString;
use std::path::Path;

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    // Another library may have installed it already; it is the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    commands::run(args::Args::parse_from(arguments()))
}

/// Called as `niks3-hook`, the name of niks3 1.7's, it is `niks3 hook`.
fn arguments() -> impl Iterator<Item = OsString> {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_else(|| "niks3".into());
    let is_hook = Path::new(&program).file_name().is_some_and(|name| name == "niks3-hook");
    let hook = is_hook.then(|| "hook".into());
    std::iter::once(program).chain(hook).chain(arguments)
}
