//! `niks3 use`: the lines by which Nix reads from a cache and trusts it.

mod netrc;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use reqwest::{StatusCode, Url};

use super::CommandError;
use crate::client::Client;
use crate::printer::Printer;

/// Prints the lines, or adds those that a file lacks to it.
pub(super) async fn run(
    client: &Client,
    file: Option<PathBuf>,
    netrc: Option<PathBuf>,
    printer: Printer,
) -> Result<(), CommandError> {
    let config = client.cache_config().await?;
    let mut settings = vec![("extra-substituters", config.substituter_url.clone())];
    settings.extend(config.public_keys.iter().map(|key| ("extra-trusted-public-keys", key.to_string())));
    if config.public_keys.is_empty() {
        return Err(CommandError::Unsigned(client.host()));
    }
    match netrc {
        Some(path) => {
            keep_token(client, &config.substituter_url, &path).await?;
            let path = std::path::absolute(&path).unwrap_or(path);
            printer.say(&format!("The token is in {}", path.display()));
            settings.push(("netrc-file", path.display().to_string()));
        }
        None if is_private(client, &config.substituter_url).await => {
            printer.warn("readers of this cache need a token: --netrc FILE keeps it where Nix looks for it");
        }
        None => {}
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

/// Whether readers need a token. Who cannot be asked is not said to be private.
async fn is_private(client: &Client, substituter: &str) -> bool {
    let url = format!("{}/nix-cache-info", substituter.trim_end_matches('/'));
    let Ok(url) = Url::parse(&url) else { return false };
    client.read(&url, false).await.is_ok_and(|(status, ..)| status == StatusCode::UNAUTHORIZED)
}

async fn keep_token(client: &Client, substituter: &str, path: &Path) -> Result<(), CommandError> {
    let token = client.token().await?.ok_or(CommandError::NoTokenToKeep)?;
    let url = Url::parse(substituter).ok();
    let host =
        url.as_ref().and_then(Url::host_str).ok_or_else(|| CommandError::NoHost(substituter.to_owned()))?;
    netrc::write(path, host, &token).map_err(|source| CommandError::Write { path: path.to_owned(), source })
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
