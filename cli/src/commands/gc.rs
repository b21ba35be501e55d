//! `niks3 gc`: starts a collection and stays until it ends.

use std::time::Duration;

use niks3_protocol::api::gc::{GcParams, GcState, GcStatus};
use tokio::time::Instant;

use super::CommandError;
use crate::args::GcArgs;
use crate::client::{Client, ClientError};
use crate::printer::{Printer, bytes};

/// Before the first look at the run; each further pause is twice as long.
const FIRST_POLL: Duration = Duration::from_millis(50);
/// The longest pause between two looks.
const POLL: Duration = Duration::from_secs(1);
/// Between two lines about it.
const LINE_PAUSE: Duration = Duration::from_secs(10);
/// How long a run with other parameters is waited for.
const BUSY_LIMIT: Duration = Duration::from_hours(1);

pub(super) async fn run(client: &Client, args: GcArgs, printer: Printer) -> Result<(), CommandError> {
    let params = GcParams {
        older_than: args.older_than,
        failed_uploads_older_than: args.failed_uploads_older_than,
        force: args.force,
        deletion_grace: args.deletion_grace,
    };
    let started = start(client, &params, printer).await?;
    for warning in &started.warnings {
        printer.say(&format!("note: {warning}"));
    }
    let status = follow(client, started, printer).await?;
    let json = serde_json::to_string(&status).unwrap_or_default();
    if let Some(path) = args.result_file {
        std::fs::write(&path, format!("{json}\n"))
            .map_err(|source| CommandError::ResultFile { path, source })?;
    }
    if args.json {
        printer.data(&json);
    }
    let stats = &status.stats;
    printer.say(&format!(
        "Collected: {} uploads and {} closures expired, {} objects marked, {} deleted ({} freed), {} failed",
        stats.failed_uploads_deleted,
        stats.old_closures_deleted,
        stats.objects_marked_for_deletion,
        stats.objects_deleted_after_grace_period,
        bytes(u64::try_from(stats.bytes_freed).unwrap_or(0)),
        stats.objects_failed_to_delete,
    ));
    match status.state {
        GcState::Failed => {
            let reason = status.error.unwrap_or_else(|| "the server gave no reason".to_owned());
            Err(CommandError::GcFailed(reason))
        }
        _ => Ok(()),
    }
}

/// Starts the run; one with other parameters is waited for first.
async fn start(client: &Client, params: &GcParams, printer: Printer) -> Result<GcStatus, CommandError> {
    let give_up = Instant::now() + BUSY_LIMIT;
    loop {
        match client.start_gc(params).await {
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

/// Waits for the end of a run.
async fn follow(client: &Client, started: GcStatus, printer: Printer) -> Result<GcStatus, CommandError> {
    let mut status = started;
    let mut said = Instant::now();
    let mut pause = FIRST_POLL;
    while status.state == GcState::Running {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(POLL);
        status = client.gc_status().await?;
        if said.elapsed() >= LINE_PAUSE {
            said = Instant::now();
            let deleted = status.stats.objects_deleted_after_grace_period;
            printer.say(&format!("{:?}: {deleted} objects deleted so far", status.phase));
        }
    }
    Ok(status)
}
