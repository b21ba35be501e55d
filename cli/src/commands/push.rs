//! `niks3 push`

use std::sync::Arc;
use std::time::Instant;

use niks3_protocol::api::pins::PinName;
use niks3_protocol::nix::StorePath;

use super::CommandError;
use crate::args::PushArgs;
use crate::client::Client;
use crate::printer::{Printer, bytes, paths};
use crate::push::{self, Options, PushError};
use crate::store;

pub(super) async fn run(
    client: Client,
    args: PushArgs,
    no_progress: bool,
    printer: Printer,
) -> Result<(), CommandError> {
    let deadline = args.deadline;
    let push = push(client, args, no_progress, printer);
    match deadline {
        None => push.await,
        Some(time) => tokio::time::timeout(time.0, push).await.unwrap_or(Err(CommandError::Deadline(time))),
    }
}

async fn push(
    client: Client,
    args: PushArgs,
    no_progress: bool,
    printer: Printer,
) -> Result<(), CommandError> {
    let started = Instant::now();
    let pin: Option<PinName> = args.pin.map(|name| name.parse()).transpose()?;
    let (mut roots, mut failed): (Vec<StorePath>, usize) = (Vec::new(), 0);
    for path in &args.paths {
        match store::resolve(path) {
            Ok(root) => roots.push(root),
            Err(error) if args.keep_going => {
                printer.fail(&error, None);
                failed += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
    roots.sort_unstable();
    roots.dedup();
    if pin.is_some() && roots.len() > 1 {
        return Err(CommandError::PinOfMany(roots.len()));
    }
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let uploads = usize::from(args.max_concurrent_uploads);
    let options = Options {
        verify_s3: args.verify_s3_integrity,
        uploads,
        level: args.compression_level,
        jobs: args.jobs.map_or(cores, usize::from),
        no_progress,
        keep_going: args.keep_going,
    };
    let host = client.host();
    let client = Arc::new(client.with_limits(uploads, args.timeout.map(|timeout| timeout.0)));
    let summary = push::push(&client, &roots, options, printer).await?;
    let took = started.elapsed().as_secs_f64();
    if summary.uploaded > 0 {
        let (paths, sent) = (paths(summary.uploaded), bytes(summary.sent));
        let kept = match summary.kept {
            0 => String::new(),
            kept => format!(", {} were there from an interrupted push", bytes(kept)),
        };
        printer.say(&format!("Pushed {paths} to {host}: {sent} sent in {took:.1} s{kept}"));
    } else if failed + summary.failed.len() == 0 {
        printer.say(&format!("All of it is in {host} already; nothing was uploaded ({took:.1} s)"));
    }
    for (_, error) in &summary.failed {
        if let PushError::Needs { .. } = error {
            printer.fail(error, None);
        }
    }
    if let (Some(name), Some(root)) = (pin, roots.first())
        && summary.failed.iter().all(|(path, _)| path != root)
    {
        client.create_pin(&name, root).await?;
        printer.say(&format!("Pinned {root} as {name}"));
    }
    match failed + summary.failed.len() {
        0 => Ok(()),
        count => Err(CommandError::NotPushed(count)),
    }
}
