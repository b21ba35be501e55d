//! `niks3 delete`: one path and all that depends on it, at once.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _};

use niks3_protocol::api::gc::plan::GcPlan;
use niks3_protocol::api::gc::{DeleteRequest, GcReason, GcState, GcStatus};
use niks3_protocol::nix::StorePathHash;

use super::explain::hash_of;
use super::{CommandError, gc, plan};
use crate::args::DeleteArgs;
use crate::client::Client;
use crate::printer::{Printer, bytes, paths};

pub(super) async fn run(client: &Client, args: DeleteArgs, printer: Printer) -> Result<(), CommandError> {
    let hash = hash_of(&args.path)?;
    let force = args.force;
    if !args.yes {
        if !args.dry_run && !std::io::stdin().is_terminal() {
            return Err(CommandError::NoAnswer);
        }
        let request = DeleteRequest { dry_run: true, force };
        let status = delete(client, &hash, request, printer).await?;
        let found = status.plan.as_deref().cloned().unwrap_or_default();
        if args.dry_run && args.json {
            printer.data(&serde_json::to_string(&status).unwrap_or_default());
        } else if args.json {
            // Data is the object that comes when it is done; this is to decide by.
            printer.say(table(&found).trim_end());
        } else {
            printer.data(table(&found).trim_end());
        }
        if args.dry_run {
            return Ok(());
        }
        if !confirmed(printer)? {
            printer.say("Nothing was deleted");
            return Ok(());
        }
    }
    let status = delete(client, &hash, DeleteRequest { dry_run: false, force }, printer).await?;
    if args.json {
        printer.data(&serde_json::to_string(&status).unwrap_or_default());
    }
    let found = status.plan.as_deref().cloned().unwrap_or_default();
    for note in &found.notes {
        printer.say(&format!("note: {note}"));
    }
    let stats = &status.stats;
    printer.say(&format!(
        "Deleted {}: {} objects, {} freed",
        paths(usize::try_from(found.paths_deleted).unwrap_or(0)),
        stats.objects_deleted_after_grace_period,
        bytes(u64::try_from(stats.bytes_freed).unwrap_or(0))
    ));
    Ok(())
}

/// Starts it, once no other run is active, and waits for its end.
async fn delete(
    client: &Client,
    hash: &StorePathHash,
    request: DeleteRequest,
    printer: Printer,
) -> Result<GcStatus, CommandError> {
    let started =
        gc::start_when_free(client, printer, async || client.delete_path(hash, request).await).await?;
    let status = gc::follow(client, started, printer).await?;
    match status.state {
        GcState::Failed => {
            let reason = status.error.unwrap_or_else(|| "the server gave no reason".to_owned());
            Err(if status.reason == Some(GcReason::Held) {
                CommandError::Held(reason)
            } else {
                CommandError::DeleteFailed(reason)
            })
        }
        _ => Ok(status),
    }
}

fn confirmed(printer: Printer) -> Result<bool, CommandError> {
    printer.say("Delete all of this? Type yes:");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(CommandError::Stdin)?;
    Ok(line.trim() == "yes")
}

fn table(found: &GcPlan) -> String {
    let mut text = String::new();
    let size = plan::size(found.delete.bytes);
    let _ = writeln!(text, "goes  {} objects  {}", found.delete.objects, size.trim_start());
    let closures: i64 = found.dropped_by.iter().map(|count| count.roots).sum();
    let _ = writeln!(text, "      {closures} closures, {} paths:", found.paths_deleted);
    for path in &found.paths {
        let _ = writeln!(text, "  {path}");
    }
    let named = i64::try_from(found.paths.len()).unwrap_or(i64::MAX);
    if found.paths_deleted > named {
        let _ = writeln!(text, "  and {} more", found.paths_deleted - named);
    }
    for pin in &found.dropped_pins {
        let _ = writeln!(text, "pin   {}  {}", pin.name, pin.store_path);
    }
    if found.uploads_expired > 0 {
        let _ = writeln!(text, "      {} unfinished pushes", found.uploads_expired);
    }
    for note in &found.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}
