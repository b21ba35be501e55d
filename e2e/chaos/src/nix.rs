//! Nix itself, as the reader whose word counts.

use std::process::Stdio;

use anyhow::Context as _;
use niks3_protocol::nix::{PublicKey, StorePath};
use tokio::process::Command;

/// `nix copy` of a closure into an empty store, signatures required; what it said where it failed.
pub async fn copy(url: &str, key: &PublicKey, path: &StorePath) -> anyhow::Result<Result<(), String>> {
    let folder = tempfile::Builder::new().prefix("chaos-nix-").tempdir()?;
    // Nix refuses a store behind a symlink.
    let base = folder.path().canonicalize()?;
    let target = base.join("copy");
    let output = Command::new("nix")
        .args(["--extra-experimental-features", "nix-command", "copy", "--from", url, "--to"])
        .arg(&target)
        .arg(path.as_str())
        .args(["--option", "trusted-public-keys", &key.to_string(), "--option", "require-sigs", "true"])
        .env("HOME", &base)
        .env("XDG_CACHE_HOME", base.join("cache"))
        .env("NIX_STATE_DIR", base.join("state"))
        .env("NIX_LOG_DIR", base.join("log"))
        .env("NIX_CONF_DIR", base.join("etc"))
        .env("NIX_CONFIG", "substituters =\nbuild-users-group =\nsandbox = false\nconnect-timeout = 5\n")
        .stdin(Stdio::null())
        .output()
        .await
        .context("nix cannot be started; the run is judged by it")?;
    let arrived = target.join("nix/store").join(path.base_name()).exists();
    // Store directories are read-only, which an ordinary user's removal stumbles over.
    let _ = Command::new("chmod").args(["-R", "u+w"]).arg(&base).output().await;
    if output.status.success() && arrived {
        return Ok(Ok(()));
    }
    Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()))
}
