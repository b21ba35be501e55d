//! `make demo`

use std::process::ExitCode;

use niks3_e2e::teller::Teller;

fn main() -> ExitCode {
    let teller = Teller::new();
    match niks3_e2e::story::tell(&teller) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            teller.broke_off(&error);
            ExitCode::FAILURE
        }
    }
}
