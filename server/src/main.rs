//! `niks3-server serve | migrate | check | fsck`.

use std::process::ExitCode;

use clap::Parser as _;
use niks3_server::args::{self, Args};

fn main() -> ExitCode {
    let args = Args::parse_from(args::from_go(std::env::args_os()));
    niks3_server::telemetry::init(args.debug);
    match niks3_server::serve::main(args) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
