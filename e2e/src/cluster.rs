//! kubectl and helm, as a user would call them.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::teller::Teller;

/// Between two looks at something that is waited for.
const PAUSE: Duration = Duration::from_millis(500);

/// The cluster of this checkout.
#[derive(Debug)]
pub struct Cluster<'a> {
    root: PathBuf,
    path: OsString,
    teller: &'a Teller,
}

impl<'a> Cluster<'a> {
    /// The cluster that `e2e/cluster/up` brings up.
    pub fn new(teller: &'a Teller) -> anyhow::Result<Self> {
        let root = crate::root()?;
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        let programs = std::env::var_os("NIKS3_PROGRAMS").map(PathBuf::from);
        let programs = programs.or(cache.map(|cache| cache.join("niks3/bin"))).context("HOME is not set")?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path)))?;
        Ok(Self { root, path, teller })
    }

    /// Whether it is the single node that `e2e/cluster/own/up` starts.
    pub fn is_own(&self) -> anyhow::Result<bool> {
        Ok(std::fs::read_to_string(self.root.join(".state/cluster/choice"))?.trim() == "own")
    }

    /// An image as `e2e/images/build` names it: a cluster that was given pulls from a registry.
    pub fn image(name: &str) -> String {
        let registry = std::env::var_os("NIKS3_IMAGE_REGISTRY").unwrap_or_else(|| "niks3.local".into());
        format!("{}/{name}:e2e", registry.display())
    }

    /// Runs a script of this checkout; what it says goes where ours goes.
    pub fn script(&self, line: &str) -> anyhow::Result<()> {
        self.teller.command(line);
        let mut words = line.split(' ');
        let status = Command::new(self.root.join(words.next().unwrap_or_default()))
            .args(words)
            .current_dir(&self.root)
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("{line} could not be started"))?;
        ensure!(status.success(), "{line} failed");
        Ok(())
    }

    /// Runs a command, shows it and what it says.
    pub fn show(&self, line: &str) -> anyhow::Result<String> {
        self.teller.command(line);
        let output = self.run(line, None)?;
        self.teller.output(&output);
        Ok(output)
    }

    /// Runs a command; `input` is what it reads.
    pub fn run(&self, line: &str, input: Option<&str>) -> anyhow::Result<String> {
        let words = words(line);
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .current_dir(&self.root)
            .env("PATH", &self.path)
            .env("KUBECONFIG", self.root.join(".state/cluster/kubeconfig"))
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} could not be started", words[0]))?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            stdin.write_all(input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `kubectl apply` of an object.
    pub fn apply(&self, object: &Value) -> anyhow::Result<()> {
        self.run("kubectl apply -f -", Some(&object.to_string())).map(|_| ())
    }

    /// `kubectl get WHAT -o json`
    pub fn get(&self, what: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.run(&format!("kubectl get {what} -o json"), None)?)?)
    }

    /// The same of one object, where it is there; an API server that does not answer is an error.
    pub fn find(&self, what: &str) -> anyhow::Result<Option<Value>> {
        let found = self.run(&format!("kubectl get {what} --ignore-not-found -o json"), None)?;
        if found.trim().is_empty() { Ok(None) } else { Ok(Some(serde_json::from_str(&found)?)) }
    }

    /// The names of what `kubectl get WHAT` finds.
    pub fn names(&self, what: &str) -> anyhow::Result<Vec<String>> {
        Ok(self.run(&format!("kubectl get {what} -o name"), None)?.lines().map(str::to_owned).collect())
    }

    /// Asks until there is an answer. `what` completes "waited for".
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(answer) = ask()? {
                return Ok(answer);
            }
            ensure!(begun.elapsed() < limit, "waited {} s in vain for {what}", limit.as_secs());
            std::thread::sleep(PAUSE);
        }
    }
}

/// A condition of an object, or null.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// The same, once the operator has looked at the object as it is now.
pub fn condition_of_now<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let found = condition(object, kind);
    (found["observedGeneration"] == object["metadata"]["generation"]).then_some(found)
}

/// The words of a line; single quotes keep blanks.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_blanks() {
        assert_eq!(
            words("kubectl patch x -p '{\"a\": 1}' -n  y"),
            ["kubectl", "patch", "x", "-p", "{\"a\": 1}", "-n", "y"]
        );
    }
}
