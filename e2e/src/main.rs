//! `make demo`

use std::process::ExitCode;

use niks3_e2e::story::{Extent, tell};
use niks3_e2e::teller::Teller;

fn main() -> ExitCode {
    let teller = Teller::new();
    match tell(&teller, Extent::Demo) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            teller.broke_off(&error);
            ExitCode::FAILURE
        }
    }
}
