//! `niks3-operator run | crd | reference | self-test`.

use std::process::ExitCode;

use clap::Parser as _;
use niks3_operator::args::{Args, Command};

fn main() -> ExitCode {
    // First: two TLS providers in one program make rustls panic.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = match Args::parse().command {
        Command::Run(args) => {
            niks3_operator::telemetry::init(args.debug);
            niks3_operator::run::main(*args)
        }
        Command::Crd(args) => niks3_operator::run::crd(&args),
        Command::Reference(args) => niks3_operator::run::reference(&args),
        Command::SelfTest(args) => {
            niks3_operator::telemetry::init(false);
            niks3_operator::self_test::main(&args)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
