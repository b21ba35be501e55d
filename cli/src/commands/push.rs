//! `niks3 push`

mod stdin;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use niks3_protocol::api::pins::PinName;
use niks3_protocol::nix::StorePath;
use serde_json::json;

use super::CommandError;
use crate::args::{EngineArgs, PushArgs};
use crate::client::Client;
use crate::printer::{Printer, bytes, chain, paths};
use crate::push::{self, Options, PushError, Summary, UnderWay};
use crate::store;
use stdin::Batches;

pub(super) async fn run(
    client: Client,
    args: PushArgs,
    no_progress: bool,
    printer: Printer,
) -> Result<(), CommandError> {
    let pin: Option<PinName> = args.pin.as_deref().map(str::parse).transpose()?;
    let (client, options) = engine(client, &args.engine);
    let options = Options { no_progress: no_progress || args.json, keep_going: args.keep_going, ..options };
    let mut pushing = Pushing {
        client,
        options,
        printer,
        started: Instant::now(),
        total: Summary::default(),
        unknown: 0,
        under_way: UnderWay::default(),
    };
    let result = match args.deadline {
        None => pushing.all(args.paths, args.stdin, pin).await,
        Some(time) => {
            let all = pushing.all(args.paths, args.stdin, pin);
            tokio::time::timeout(time.0, all).await.unwrap_or(Err(CommandError::Deadline(time)))
        }
    };
    printer.close_group();
    pushing.total.add(pushing.under_way.take());
    pushing.summarize(result.as_ref().err());
    result
}

/// A client and options as they are asked for; without a bar, and to the end whatever fails.
pub(super) fn engine(client: Client, args: &EngineArgs) -> (Arc<Client>, Options) {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let uploads = usize::from(args.max_concurrent_uploads);
    let options = Options {
        verify_s3: args.verify_s3_integrity,
        uploads,
        level: args.compression_level,
        jobs: args.jobs.map_or(cores, usize::from),
        no_progress: true,
        keep_going: true,
    };
    (Arc::new(client.with_limits(uploads, args.timeout.map(|timeout| timeout.0))), options)
}

/// Says what a push did that began then.
pub(super) fn tell(summary: &Summary, host: &str, began: Instant, printer: Printer) {
    let took = began.elapsed().as_secs_f64();
    printer.close_group();
    if summary.uploaded > 0 {
        let (paths, sent) = (paths(summary.uploaded), bytes(summary.sent));
        let kept = match summary.kept {
            0 => String::new(),
            kept => format!(", {} were there from an interrupted push", bytes(kept)),
        };
        printer.say(&format!("Pushed {paths} to {host}: {sent} sent in {took:.1} s{kept}"));
    } else if summary.failed.is_empty() {
        printer.say(&format!("All of it is in {host} already; nothing was uploaded ({took:.1} s)"));
    }
    for (_, error) in &summary.failed {
        if let PushError::Needs { .. } = error {
            printer.fail(error, None);
        }
    }
}

/// One run of the command: one batch of paths, or as many as come by standard input.
struct Pushing {
    client: Arc<Client>,
    options: Options,
    printer: Printer,
    started: Instant,
    total: Summary,
    /// Paths that are none.
    unknown: usize,
    under_way: UnderWay,
}

impl Pushing {
    async fn all(
        &mut self,
        paths: Vec<PathBuf>,
        stdin: bool,
        pin: Option<PinName>,
    ) -> Result<(), CommandError> {
        if stdin {
            let mut batches = Batches::new();
            while let Some(paths) = batches.next().await? {
                let roots = self.resolve(&paths)?;
                self.batch(&roots).await?;
            }
        } else {
            let roots = self.resolve(&paths)?;
            if pin.is_some() && roots.len() > 1 {
                return Err(CommandError::PinOfMany(roots.len()));
            }
            self.batch(&roots).await?;
            if let (Some(name), Some(root)) = (pin, roots.first())
                && self.total.failed.iter().all(|(path, _)| path != root)
            {
                self.client.create_pin(&name, root).await?;
                self.printer.say(&format!("Pinned {root} as {name}"));
            }
        }
        match self.unknown + self.total.failed.len() {
            0 => Ok(()),
            count => Err(CommandError::NotPushed(count)),
        }
    }

    fn resolve(&mut self, paths: &[PathBuf]) -> Result<Vec<StorePath>, CommandError> {
        let mut roots = Vec::new();
        for path in paths {
            match store::resolve(path) {
                Ok(root) => roots.push(root),
                Err(error) if self.options.keep_going => {
                    self.printer.fail(&error, None);
                    let error = chain(&error);
                    self.printer.object(
                        &json!({ "path": path.to_string_lossy(), "status": "failed", "error": error }),
                    );
                    self.unknown += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
        roots.sort_unstable();
        roots.dedup();
        Ok(roots)
    }

    async fn batch(&mut self, roots: &[StorePath]) -> Result<(), CommandError> {
        let began = Instant::now();
        let summary = push::push(&self.client, roots, self.options, self.printer, &self.under_way).await?;
        if !roots.is_empty() {
            tell(&summary, &self.client.host(), began, self.printer);
        }
        self.total.add(summary);
        Ok(())
    }

    /// The last object of `--json`.
    fn summarize(&self, error: Option<&CommandError>) {
        let Summary { cached, uploaded, sent, kept, failed } = &self.total;
        // The path that ended the push is nowhere else.
        let last = matches!(error, Some(CommandError::Push(error)) if error.path().is_some());
        self.printer.object(&json!({ "summary": {
            "server": self.client.host(),
            "cached": cached,
            "uploaded": uploaded,
            "failed": self.unknown + failed.len() + usize::from(last),
            "bytes_sent": sent,
            "bytes_resumed": kept,
            "seconds": self.started.elapsed().as_secs_f64(),
            "error": error.map(|error| chain(error)),
        }}));
    }
}
