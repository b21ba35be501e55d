//! `niks3 use`: the lines by which Nix reads from a cache and trusts it.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::CommandError;
use crate::client::Client;
use crate::printer::Printer;

/// Prints the lines, or adds those that a file lacks to it.
pub(super) async fn run(
    client: &Client,
    file: Option<PathBuf>,
    printer: Printer,
) -> Result<(), CommandError> {
    let config = client.cache_config().await?;
    let mut settings = vec![("extra-substituters", config.substituter_url.clone())];
    settings.extend(config.public_keys.iter().map(|key| ("extra-trusted-public-keys", key.to_string())));
    if config.public_keys.is_empty() {
        return Err(CommandError::Unsigned(client.host()));
    }
    let Some(file) = file else {
        for (name, value) in &settings {
            printer.data(&format!("{name} = {value}"));
        }
        return Ok(());
    };
    let failed = |source| CommandError::Write { path: file.clone(), source };
    let known = match std::fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text.map_err(failed)?,
    };
    let missing: Vec<String> = settings
        .iter()
        .filter(|(name, value)| !has(&known, name, value))
        .map(|(name, value)| format!("{name} = {value}\n"))
        .collect();
    if missing.is_empty() {
        printer.say(&format!("{} has all of it already", file.display()));
        return Ok(());
    }
    append(&file, &known, &missing.concat()).map_err(failed)?;
    printer.say(&format!("Added to {}:\n{}", file.display(), missing.concat().trim_end()));
    Ok(())
}

/// Whether a file sets this value, by any of the setting's names.
fn has(text: &str, name: &str, value: &str) -> bool {
    let plain = name.trim_start_matches("extra-");
    text.lines().filter_map(|line| line.split('#').next()?.split_once('=')).any(|(set, values)| {
        set.trim().trim_start_matches("extra-") == plain && values.split_whitespace().any(|one| one == value)
    })
}

/// All lines in one write, at the end.
fn append(file: &Path, known: &str, lines: &str) -> io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let newline = if known.is_empty() || known.ends_with('\n') { "" } else { "\n" };
    let mut file = OpenOptions::new().append(true).create(true).open(file)?;
    file.write_all(format!("{newline}{lines}").as_bytes())
}
