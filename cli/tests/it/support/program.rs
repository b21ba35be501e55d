//! A run of the program, and what came of it.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::environment;

/// One run of the program, in an environment that has nothing but what the test gives.
pub(crate) struct Niks3 {
    command: Command,
    hidden: Vec<(String, String)>,
}

impl Niks3 {
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_niks3"));
        command.args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
        command.env("PATH", environment("PATH")).env("HOME", "/nonexistent");
        Self { command, hidden: Vec::new() }
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn envs(mut self, variables: Vec<(String, String)>) -> Self {
        self.command.envs(variables);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Shows `name` in the outcome's texts wherever `text` stands.
    pub(crate) fn hide(mut self, text: &str, name: &str) -> Self {
        self.hidden.push((text.to_owned(), name.to_owned()));
        self
    }

    /// The same program, started by another: its arguments follow.
    pub(crate) fn within(mut self, program: &[&str]) -> Self {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(self.command.as_std().get_program());
        command.args(self.command.as_std().get_args()).env_clear().stdin(Stdio::null()).kill_on_drop(true);
        let variables = self.command.as_std().get_envs();
        command.envs(variables.filter_map(|(name, value)| Some((name, value?))));
        self.command = command;
        self
    }

    /// The command, for what is not asked here.
    pub(crate) fn command(self) -> Command {
        self.command
    }

    /// Starts it, to be killed.
    pub(crate) fn spawn(mut self) -> Child {
        self.command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs it to its end; three minutes at most.
    pub(crate) async fn run(mut self) -> Outcome {
        let output = tokio::time::timeout(Duration::from_mins(3), self.command.output());
        let output = output.await.expect("the program did not end within 3 minutes").unwrap();
        let text = |bytes: Vec<u8>| {
            let mut text = String::from_utf8(bytes).unwrap();
            for (hidden, name) in &self.hidden {
                text = text.replace(hidden, name);
            }
            hide_numbers(&hide_hashes(&text))
        };
        Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Asserts success; gives what was said to people.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stderr
    }

    /// Asserts success; gives the data.
    #[track_caller]
    pub(crate) fn data(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Asserts this exit code and no data; gives all that was said.
    #[track_caller]
    pub(crate) fn stderr_of(self, code: i32) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{}", self.stderr);
        self.stderr
    }

    /// Asserts this exit code and one line `error: …`, a hint at most after it; gives the lines.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert_eq!(self.stdout, "", "a failure gives no data");
        let mut lines = self.stderr.lines().skip_while(|line| !line.starts_with("error: "));
        assert!(lines.next().is_some_and(|line| line.len() > "error: ".len()), "{}", self.stderr);
        assert!(lines.all(|line| line.starts_with("hint: ")), "{}", self.stderr);
        self.stderr
    }
}

/// `/nix/store/HASH-name`, so that texts stay the same wherever a test's store lies.
fn hide_hashes(text: &str) -> String {
    let mut parts = text.split("/nix/store/");
    let mut hidden = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        hidden.push_str("/nix/store/");
        match part.split_at_checked(32) {
            Some((hash, rest)) if rest.starts_with('-') && !hash.starts_with("000") => {
                hidden.push_str("HASH");
                hidden.push_str(rest);
            }
            _ => hidden.push_str(part),
        }
    }
    hidden
}

/// `TIME` for `0.4 s`, `SIZE` for `288 B`: the paths in a NAR are as long as the test's folder makes them.
fn hide_numbers(text: &str) -> String {
    let units = ["s", "B", "KiB", "MiB"];
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for index in (1..words.len()).rev() {
        let unit: String = words[index].chars().take_while(char::is_ascii_alphabetic).collect();
        let number = words[index - 1].trim_start_matches('(');
        if units.contains(&unit.as_str()) && number.parse::<f64>().is_ok() {
            let opening = if words[index - 1].starts_with('(') { "(" } else { "" };
            let name = if unit == "s" { "TIME" } else { "SIZE" };
            let rest = words.remove(index).split_off(unit.len());
            words[index - 1] = format!("{opening}{name}{rest}");
        }
    }
    words.join(" ")
}
