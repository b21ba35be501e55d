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

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    // Another library may have installed it already; it is the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    commands::run(args::Args::parse())
}
