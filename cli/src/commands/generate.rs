//! `niks3 completions` and `niks3 man`: made from the same description that reads the command line.

use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::CommandError;
use crate::args::Args;
use crate::printer::Printer;

pub(super) fn completions(shell: Shell, printer: Printer) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "niks3", &mut script);
    printer.data(String::from_utf8_lossy(&script).trim_end());
}

/// The page of `niks3`, or all pages into a folder.
pub(super) fn man(folder: Option<PathBuf>, printer: Printer) -> Result<(), CommandError> {
    let failed = |path: PathBuf| move |source| CommandError::Write { path, source };
    if let Some(folder) = folder {
        std::fs::create_dir_all(&folder).map_err(failed(folder.clone()))?;
        return clap_mangen::generate_to(Args::command(), &folder).map_err(failed(folder));
    }
    let mut page = Vec::new();
    let made = clap_mangen::Man::new(Args::command()).render(&mut page);
    made.map_err(failed(PathBuf::from("the page")))?;
    printer.data(String::from_utf8_lossy(&page).trim_end());
    Ok(())
}
