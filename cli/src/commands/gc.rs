//! `niks3 gc`: starts a collection and stays until it ends.

use niks3_protocol::api::gc::{GcPhase, GcReason, GcState, GcStatus};
use tokio::time::Instant;

use super::CommandError;
use super::plan::{self, time};
use super::wait::{self, BUSY_LIMIT};
use crate::args::{GcArgs, GcCommand};
use crate::client::{Client, ClientError};
use crate::printer::{Printer, bytes};

/// Entries of a list in the result file: Kubernetes keeps 4096 bytes of it.
const RESULT_ENTRIES: usize = 3;

pub(super) async fn run(client: &Client, args: GcArgs, printer: Printer) -> Result<(), CommandError> {
    match args.command {
        Some(GcCommand::List { limit, json }) => return list(client, limit, json, printer).await,
        Some(GcCommand::Show { id, json }) => return show(client, id, json, printer).await,
        Some(GcCommand::Abort) => {
            client.abort_gc().await?;
            printer.say("The collection ends after what it is at");
            return Ok(());
        }
        None => {}
    }
    let params = args.policy.params();
    let started = start_when_free(client, printer, async || client.start_gc(&params).await).await?;
    for warning in &started.warnings {
        printer.say(&format!("note: {warning}"));
    }
    let told = started.warnings.len();
    let mut status = follow(client, started, printer).await?;
    for warning in status.warnings.iter().skip(told) {
        printer.say(&format!("note: {warning}"));
    }
    let json = to_json(&status);
    if args.json {
        printer.data(&json);
    } else if args.policy.dry_run
        && let Some(plan) = &status.plan
    {
        printer.data(&plan::table(plan));
    }
    if let Some(path) = args.result_file {
        status.plan = status.plan.map(|plan| Box::new(plan.shortened(RESULT_ENTRIES)));
        std::fs::write(&path, format!("{}\n", to_json(&status)))
            .map_err(|source| CommandError::ResultFile { path, source })?;
    }
    let verb = if args.policy.dry_run { "Would collect" } else { "Collected" };
    printer.say(&format!("{verb}: {}", sentence(&status)));
    match status.state {
        GcState::Failed => {
            let reason = status.error.unwrap_or_else(|| "the server gave no reason".to_owned());
            // To try again would come to the same.
            Err(if status.reason == Some(GcReason::SafetyLimitReached) {
                CommandError::GcStopped(reason)
            } else {
                CommandError::GcFailed(reason)
            })
        }
        _ => Ok(()),
    }
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn sentence(status: &GcStatus) -> String {
    let stats = &status.stats;
    format!(
        "{} uploads and {} closures expired, {} objects marked, {} deleted ({} freed), {} failed",
        stats.failed_uploads_deleted,
        stats.old_closures_deleted,
        stats.objects_marked_for_deletion,
        stats.objects_deleted_after_grace_period,
        bytes(u64::try_from(stats.bytes_freed).unwrap_or(0)),
        stats.objects_failed_to_delete,
    )
}

async fn list(client: &Client, limit: u32, json: bool, printer: Printer) -> Result<(), CommandError> {
    let runs = client.gc_runs(limit).await?;
    if json {
        printer.data(&to_json(&runs));
        return Ok(());
    }
    printer.data(&format!("{:>6}  {:20}  {:9}  RESULT", "RUN", "STARTED", "STATE"));
    for run in &runs {
        let result = run.error.clone().unwrap_or_else(|| sentence(run));
        let dry = if run.params.dry_run { "dry run: " } else { "" };
        let (id, state) = (run.id.unwrap_or_default(), format!("{:?}", run.state).to_lowercase());
        printer.data(&format!("{id:>6}  {}  {state:9}  {dry}{result}", time(run.started_at)));
    }
    Ok(())
}

async fn show(client: &Client, id: i64, json: bool, printer: Printer) -> Result<(), CommandError> {
    let run = client.gc_run(id).await?;
    if json {
        printer.data(&to_json(&run));
        return Ok(());
    }
    if let Some(plan) = &run.plan {
        printer.data(&plan::table(plan));
    }
    let state = format!("{:?}", run.state).to_lowercase();
    printer.say(&format!("Run {id} {state}: {}", run.error.clone().unwrap_or_else(|| sentence(&run))));
    Ok(())
}

/// Starts the run; one with other parameters is waited for first.
pub(super) async fn start_when_free(
    client: &Client,
    printer: Printer,
    start: impl AsyncFn() -> Result<GcStatus, ClientError>,
) -> Result<GcStatus, CommandError> {
    let give_up = Instant::now() + BUSY_LIMIT;
    loop {
        match start().await {
            Ok(status) => return Ok(status),
            Err(ClientError::GcConflict(active)) if Instant::now() < give_up => {
                printer.say("Another collection is running; waiting for it");
                follow(client, *active, printer).await?;
            }
            Err(ClientError::GcConflict(_)) => return Err(CommandError::GcBusy(BUSY_LIMIT)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for the end of a run. Only niks3 1.7, whose runs have no ids, is asked for the last one, which may be another.
pub(super) async fn follow(
    client: &Client,
    started: GcStatus,
    printer: Printer,
) -> Result<GcStatus, CommandError> {
    let look = async |run: &GcStatus| match run.id {
        Some(id) => client.gc_run(id).await,
        None => client.gc_status().await,
    };
    Ok(wait::for_end(started, printer, look).await?)
}

impl wait::Run for GcStatus {
    fn state(&self) -> GcState {
        self.state
    }

    fn doing(&self) -> String {
        let deleted = self.stats.objects_deleted_after_grace_period;
        let phase = match self.phase {
            GcPhase::CleanupPendingUploads => "expiring uploads",
            GcPhase::CleanupOldClosures => "deciding what stays",
            GcPhase::CleanupOrphanObjects => "deleting what nothing reaches",
            GcPhase::VacuumTables => "giving space back",
        };
        format!("{phase}: {deleted} objects deleted so far")
    }
}
