//! `niks3 doctor`: looks at a set-up from end to end, and says what to change.

mod cache;
mod nix;
mod trial;

use std::sync::Arc;

use serde::Serialize;

use super::CommandError;
use crate::args::{DoctorArgs, GlobalArgs};
use crate::client::Client;
use crate::printer::{Printer, chain};

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// Works, but not all of it, or not for everybody.
    Warn,
    Fail,
    /// What it needs has failed.
    Skip,
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
struct Check {
    #[serde(rename = "check")]
    name: &'static str,
    status: Status,
    found: String,
    /// What to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<String>,
}

impl Check {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { name: check, status: Status::Ok, found: found.into(), change: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, change: impl Into<String>) -> Self {
        Self { name: check, status: Status::Warn, found: found.into(), change: Some(change.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, change: impl Into<String>) -> Self {
        Self { status: Status::Fail, ..Self::warn(check, found, change) }
    }

    /// A failure in the words of a command; `change` where it has no hint.
    fn error(check: &'static str, error: &CommandError, change: &str) -> Self {
        Self::fail(check, chain(error), error.hint().unwrap_or(change))
    }

    fn skip(check: &'static str, why: &str) -> Self {
        Self { name: check, status: Status::Skip, found: why.to_owned(), change: None }
    }
}

/// Says each check as it is done.
struct Report {
    printer: Printer,
    json: bool,
    failed: usize,
}

impl Report {
    /// Whether what builds on it can be checked.
    fn add(&mut self, check: &Check) -> bool {
        let failed = check.status == Status::Fail;
        self.failed += usize::from(failed);
        if self.json {
            self.printer.data(&serde_json::to_string(check).unwrap_or_default());
        } else {
            let status = match check.status {
                Status::Ok => "ok",
                Status::Warn => "warn",
                Status::Fail => "fail",
                Status::Skip => "skip",
            };
            self.printer.data(&format!("{status:<5} {:<9} {}", check.name, check.found));
            if let Some(change) = &check.change {
                self.printer.data(&format!("{:15} → {change}", ""));
            }
        }
        !failed
    }

    fn skip(&mut self, checks: &[&'static str], why: &str) {
        for check in checks {
            self.add(&Check::skip(check, why));
        }
    }
}

pub(super) async fn run(args: &GlobalArgs, doctor: DoctorArgs, printer: Printer) -> Result<(), CommandError> {
    let mut report = Report { printer, json: doctor.json, failed: 0 };
    examine(args, &doctor, &mut report).await;
    match report.failed {
        0 => Ok(()),
        failed => Err(CommandError::Unwell(failed)),
    }
}

async fn examine(args: &GlobalArgs, doctor: &DoctorArgs, report: &mut Report) {
    let (version, settings) = nix::look().await;
    let has_nix = report.add(&version);
    report.add(&settings.as_ref().map_or_else(Clone::clone, nix::Settings::features));

    let needs_server = ["clock", "token", "nix.conf", "trust", "bucket", "commit", "read"];
    let client = match Client::new(args) {
        Ok(client) => Arc::new(client),
        Err(error) => {
            let change = "correct the option, the variable or the line of config.toml that says so";
            report.add(&Check::error("server", &error.into(), change));
            return report.skip(&needs_server, "no server is known");
        }
    };
    let config = match client.cache_config().await {
        Ok(config) => config,
        Err(error) => {
            let change = "is the address right, and does a firewall or proxy stand between?";
            report.add(&Check::error("server", &error.into(), change));
            return report.skip(&needs_server, "the server does not answer");
        }
    };
    report.add(&cache::server(&client, &config));
    report.add(&cache::clock(&client).await);
    let may_push = report.add(&cache::token(&client).await);
    match &settings {
        Ok(settings) => {
            report.add(&settings.reads_from(&config));
            report.add(&settings.trust().await);
        }
        Err(_) => report.skip(&["nix.conf", "trust"], "Nix does not tell its configuration"),
    }
    let trial = ["bucket", "commit", "read"];
    if doctor.no_push {
        report.skip(&trial, "--no-push was given");
    } else if !has_nix {
        report.skip(&trial, "there is no Nix to add a path with");
    } else if !may_push {
        report.skip(&trial, "there is no token that may push");
    } else {
        trial::run(&client, &config, report).await;
    }
}
