//! Nix on this machine, and what its configuration makes of the cache.

use std::collections::HashMap;
use std::process::Stdio;

use niks3_protocol::api::cache_config::CacheConfig;
use serde::Deserialize;
use tokio::process::Command;

use super::Check;

/// The oldest Nix that all of this is tried with.
const OLDEST: (u32, u32) = (2, 8);
const FLAG: [&str; 2] = ["--extra-experimental-features", "nix-command"];

/// What `nix config show` says, as far as it matters.
pub(super) struct Settings {
    values: HashMap<String, Setting>,
    /// `nix-command` is on without our asking for it.
    commands: bool,
}

#[derive(Deserialize)]
struct Setting {
    value: serde_json::Value,
}

/// The version, and the configuration or why it is not known.
pub(super) async fn look() -> (Check, Result<Settings, Check>) {
    let checked = match ask(&["--version"]).await {
        Ok(text) => version(text.trim()),
        Err(error) => {
            let change = "install Nix, or add the folder of its programs to PATH";
            Check::fail("nix", format!("the program nix cannot be started: {error}"), change)
        }
    };
    if checked.status == super::Status::Fail {
        return (checked, Err(Check::skip("features", "there is no Nix that can be asked")));
    }
    (checked, settings().await)
}

fn version(text: &str) -> Check {
    let number = text.rsplit(' ').next().unwrap_or_default();
    let mut parts = number.split(['.', '-', '+', 'p']).map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < OLDEST => {
            let (major, minor) = OLDEST;
            Check::fail("nix", format!("{text} is too old"), format!("install Nix {major}.{minor} or newer"))
        }
        _ => Check::ok("nix", text),
    }
}

async fn settings() -> Result<Settings, Check> {
    let mut problem = String::new();
    for (flag, commands) in [(&[][..], true), (&FLAG[..], false)] {
        for command in [&["config", "show", "--json"][..], &["show-config", "--json"]] {
            match ask(&[flag, command].concat()).await.map(|text| serde_json::from_str(&text)) {
                Ok(Ok(values)) => return Ok(Settings { values, commands }),
                Ok(Err(error)) => problem = error.to_string(),
                Err(error) => problem = error,
            }
        }
    }
    let found = format!("Nix does not show its configuration: {problem}");
    Err(Check::fail("features", found, "`nix show-config` says where nix.conf is wrong"))
}

/// What nix prints; else its first line of complaint.
async fn ask(arguments: &[&str]) -> Result<String, String> {
    run("nix", arguments).await
}

pub(super) async fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().await;
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|line| line.contains("error")).or(said.lines().next()).unwrap_or_default();
    Err(line.trim_start_matches("error:").trim().to_owned())
}

impl Settings {
    fn list(&self, name: &str) -> Vec<&str> {
        match self.values.get(name).map(|setting| &setting.value) {
            Some(serde_json::Value::Array(values)) => {
                values.iter().filter_map(serde_json::Value::as_str).collect()
            }
            Some(serde_json::Value::String(value)) => value.split_whitespace().collect(),
            _ => Vec::new(),
        }
    }

    /// Whether people can use the commands that caches are used with.
    pub(super) fn features(&self) -> Check {
        if self.commands {
            return Check::ok("features", "nix-command is on");
        }
        let change = "add `extra-experimental-features = nix-command flakes` to /etc/nix/nix.conf";
        Check::warn("features", "nix-command is off: `nix build` and `nix copy` refuse to run", change)
    }

    /// Whether Nix reads from the cache and trusts it.
    pub(super) fn reads_from(&self, config: &CacheConfig) -> Check {
        let bare = |url: &str| url.trim_end_matches('/').to_owned();
        let cache = bare(&config.substituter_url);
        let reads = self.list("substituters").into_iter().any(|url| bare(url) == cache);
        let trusted = self.list("trusted-public-keys");
        let trusts = config.public_keys.iter().any(|key| trusted.contains(&key.to_string().as_str()));
        let change = "`niks3 use --file /etc/nix/nix.conf` adds what is missing";
        match (reads, trusts) {
            (true, true) => Check::ok("nix.conf", format!("Nix reads from {cache} and trusts its key")),
            (true, false) => Check::warn(
                "nix.conf",
                format!("Nix reads from {cache}, but trusts none of its keys"),
                change,
            ),
            (false, _) => Check::warn("nix.conf", format!("Nix does not read from {cache}"), change),
        }
    }

    /// Whether Nix's daemon takes this user's word for substituters and keys.
    pub(super) async fn trust(&self) -> Check {
        let user = run("id", &["-un"]).await.unwrap_or_default().trim().to_owned();
        let groups = run("id", &["-Gn"]).await.unwrap_or_default();
        let names = self.list("trusted-users");
        let by_group = |name: &str| {
            name.strip_prefix('@').is_some_and(|group| groups.split_whitespace().any(|one| one == group))
        };
        if user == "root" || names.iter().any(|name| *name == "*" || *name == user || by_group(name)) {
            return Check::ok("trust", format!("Nix trusts {user} to name substituters and keys"));
        }
        let found = format!("Nix's daemon does not take substituters and keys from {user}'s own nix.conf");
        let change = format!("keep them in /etc/nix/nix.conf, or add {user} to its trusted-users");
        Check::warn("trust", found, change)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;

    #[test]
    fn versions_of_all_kinds() {
        let status = |text| super::version(text).status;
        for text in
            ["nix (Nix) 2.8.0", "nix (Nix) 2.33.1", "nix (Nix) 3.0pre20260101_abc", "nix (Lix) 2.91.1"]
        {
            assert_eq!(status(text), Status::Ok, "{text}");
        }
        assert_eq!(status("nix (Nix) 2.3.16"), Status::Fail);
        assert_eq!(status("something else"), Status::Ok, "what is not known is not refused");
    }
}
