//! `niks3-server serve | migrate | check | fsck`.

use std::process::ExitCode;

use niks3_server::args::Args;
use niks3_server::telemetry::{self, Traces};

fn main() -> ExitCode {
    let args = Args::read(std::env::args_os());
    let traces = Traces::open(&args.traces);
    telemetry::init(args.debug, traces.as_ref().ok().and_then(Option::as_ref));
    let ended = traces.and_then(|traces| {
        let ended = niks3_server::serve::main(args);
        traces.into_iter().for_each(Traces::close);
        ended
    });
    match ended {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
