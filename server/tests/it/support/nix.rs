//! Nix itself, as the reader whose word counts.

use std::process::Command;

use super::closure::TestPath;

/// The NAR of a file with this content.
pub(crate) fn nar(content: &str) -> Vec<u8> {
    let mut nar = Vec::new();
    for part in ["nix-archive-1", "(", "type", "regular", "contents", content, ")"] {
        nar.extend_from_slice(&(part.len() as u64).to_le_bytes());
        nar.extend_from_slice(part.as_bytes());
        nar.resize(nar.len().next_multiple_of(8), 0);
    }
    nar
}

/// `nix copy` of a path into an empty store by a client that trusts these keys alone; what it said where it failed.
pub(crate) async fn copy(url: &str, keys: &str, path: &TestPath) -> Result<(), String> {
    let (url, keys, path) = (url.to_owned(), keys.to_owned(), path.store_path.clone());
    let copied = tokio::task::spawn_blocking(move || {
        let folder = tempfile::Builder::new().prefix("nix-").tempdir().unwrap();
        // Nix refuses a store behind a symlink.
        let base = folder.path().canonicalize().unwrap();
        let target = base.join("copy");
        let output = Command::new("nix")
            .args(["--extra-experimental-features", "nix-command", "copy", "--from", &url, "--to"])
            .arg(&target)
            .args([
                path.as_str(),
                "--option",
                "trusted-public-keys",
                &keys,
                "--option",
                "require-sigs",
                "true",
            ])
            .env("HOME", &base)
            .env("XDG_CACHE_HOME", base.join("cache"))
            .env("NIX_STATE_DIR", base.join("state"))
            .env("NIX_LOG_DIR", base.join("log"))
            .env("NIX_CONF_DIR", base.join("etc"))
            .env("NIX_CONFIG", "substituters =\nbuild-users-group =\nsandbox = false\nconnect-timeout = 5\n")
            .output()
            .unwrap();
        let arrived = target.join("nix/store").join(path.base_name()).exists();
        if output.status.success() && arrived {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    });
    copied.await.unwrap()
}
