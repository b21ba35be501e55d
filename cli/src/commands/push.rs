//! `niks3 push`

use std::time::Instant;

use niks3_protocol::api::pins::PinName;
use niks3_protocol::nix::StorePath;

use super::CommandError;
use crate::args::PushArgs;
use crate::client::Client;
use crate::printer::{Printer, bytes, paths};
use crate::push::{self, Options};
use crate::store;

pub(super) async fn run(
    client: Client,
    args: PushArgs,
    no_progress: bool,
    printer: Printer,
) -> Result<(), CommandError> {
    let started = Instant::now();
    let pin: Option<PinName> = args.pin.map(|name| name.parse()).transpose()?;
    let mut roots: Vec<StorePath> =
        args.paths.iter().map(|path| store::resolve(path)).collect::<Result<_, _>>()?;
    roots.sort_unstable();
    roots.dedup();
    if pin.is_some() && roots.len() > 1 {
        return Err(CommandError::PinOfMany(roots.len()));
    }
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let options = Options {
        verify_s3: args.verify_s3_integrity,
        uploads: usize::from(args.max_concurrent_uploads),
        level: args.compression_level,
        jobs: args.jobs.map_or(cores, usize::from),
        no_progress,
    };
    let host = client.host();
    let client = std::sync::Arc::new(client);
    let summary = push::push(&client, &roots, options, printer).await?;
    let took = started.elapsed().as_secs_f64();
    if summary.uploaded == 0 {
        printer.say(&format!("All of it is in {host} already; nothing was uploaded ({took:.1} s)"));
    } else {
        let (paths, sent) = (paths(summary.uploaded), bytes(summary.sent));
        printer.say(&format!("Pushed {paths} to {host}: {sent} sent in {took:.1} s"));
    }
    if let Some(name) = pin {
        client.create_pin(&name, &roots[0]).await?;
        printer.say(&format!("Pinned {} as {name}", roots[0]));
    }
    Ok(())
}
