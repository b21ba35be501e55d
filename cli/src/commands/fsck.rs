//! `niks3 fsck`: lets the server compare its bucket with its database, and stays until that ends.

use niks3_protocol::api::fsck::{FsckMode, FsckPhase, FsckStatus, FsckSummary};
use niks3_protocol::api::gc::{GcReason, GcState};
use tokio::time::Instant;

use super::CommandError;
use super::wait::{self, BUSY_LIMIT};
use crate::args::{FsckArgs, FsckCommand};
use crate::client::Client;
use crate::printer::Printer;

/// Findings in the result file: Kubernetes keeps 4096 bytes of it.
const RESULT_FINDINGS: usize = 3;

pub(super) async fn run(client: &Client, args: FsckArgs, printer: Printer) -> Result<(), CommandError> {
    match args.command {
        Some(FsckCommand::Show { json }) => {
            let status = client.fsck_status().await?;
            return end(&status, json, printer);
        }
        Some(FsckCommand::Abort) => {
            client.abort_fsck().await?;
            printer.say("The comparison ends");
            return Ok(());
        }
        None => {}
    }
    let params = args.params();
    let give_up = Instant::now() + BUSY_LIMIT;
    let started = loop {
        if let Some(started) = client.start_fsck(&params).await? {
            break started;
        }
        if Instant::now() >= give_up {
            return Err(CommandError::FsckBusy(BUSY_LIMIT));
        }
        printer.say("Another comparison is running; waiting for it");
        let active = client.fsck_status().await?;
        follow(client, active, printer).await?;
    };
    let mut status = follow(client, started, printer).await?;
    let told = end(&status, args.json, printer);
    if let Some(path) = args.result_file {
        status.findings.truncate(RESULT_FINDINGS);
        std::fs::write(&path, format!("{}\n", to_json(&status)))
            .map_err(|source| CommandError::ResultFile { path, source })?;
    }
    told
}

fn to_json(status: &FsckStatus) -> String {
    serde_json::to_string(status).unwrap_or_default()
}

/// Says how it went.
fn end(status: &FsckStatus, json: bool, printer: Printer) -> Result<(), CommandError> {
    if json {
        printer.data(&to_json(status));
    } else {
        for finding in &status.findings {
            printer.data(&format!("{:12}  {}  {}", finding.kind, finding.key, finding.detail));
        }
    }
    let found = &status.summary;
    match status.state {
        GcState::Running => {
            printer.say(&format!("Still comparing: {}", sentence(found)));
            Ok(())
        }
        GcState::Failed => {
            let reason = status.error.clone().unwrap_or_else(|| "the server gave no reason".to_owned());
            // To try again would come to the same.
            Err(if status.reason == Some(GcReason::SafetyLimitReached) {
                CommandError::FsckStopped(reason)
            } else {
                CommandError::FsckFailed(reason)
            })
        }
        GcState::Succeeded => {
            printer.say(&format!("Compared: {}", sentence(found)));
            if found.is_clean() {
                return Ok(());
            }
            let left = found.findings() - found.repaired;
            Err(match status.params.mode {
                FsckMode::Check => CommandError::Damage(left),
                FsckMode::Repair => CommandError::Unrepaired(left),
            })
        }
    }
}

fn sentence(found: &FsckSummary) -> String {
    format!(
        "{} objects and {} rows; {} missing, {} of another size, {} damaged, {} that no push committed; {} repaired",
        found.objects,
        found.rows,
        found.missing,
        found.other_size,
        found.damaged,
        found.without_row,
        found.repaired
    )
}

/// Waits for the end of a run.
async fn follow(client: &Client, started: FsckStatus, printer: Printer) -> Result<FsckStatus, CommandError> {
    Ok(wait::for_end(started, printer, async |run| client.fsck_run(run.id).await).await?)
}

impl wait::Run for FsckStatus {
    fn state(&self) -> GcState {
        self.state
    }

    fn doing(&self) -> String {
        let doing = match self.phase {
            FsckPhase::Compare => "comparing",
            FsckPhase::Repair => "repairing",
        };
        format!("{doing}: {}", sentence(&self.summary))
    }
}
