//! Pushes what is queued, for as long as the service runs. A path that fails is tried again, later each time, and stops no
//! other; nothing leaves the queue but what was pushed and what Nix deleted.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use niks3_protocol::nix::StorePath;
use tokio::sync::{Notify, watch};

use super::queue::Queue;
use crate::client::{Client, ClientError};
use crate::commands::push::tell;
use crate::printer::{Printer, paths};
use crate::push::{self, Options, PushError, UnderWay};

/// After the first failure; twice as long after each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(15);

/// What failed, how often in a row, and when it is tried again.
#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    until: Instant,
}

impl Failures {
    fn after(before: Option<Self>) -> Self {
        let count = before.map_or(0, |before| before.count) + 1;
        let pause = FIRST_PAUSE.saturating_mul(1 << (count - 1).min(16)).min(LONGEST_PAUSE);
        Self { count, until: Instant::now() + pause }
    }
}

pub(super) struct Worker {
    client: Arc<Client>,
    options: Options,
    printer: Printer,
    queue: Arc<Queue>,
    /// Paths in one push at most.
    batch: usize,
    /// Of single paths.
    failed: HashMap<StorePath, Failures>,
    /// Of whole pushes: no server, no permission, no Nix.
    paused: Option<Failures>,
}

/// What a pass left.
struct Pass {
    left: usize,
    /// When something of it is to be tried again.
    next: Option<Instant>,
}

impl Worker {
    pub(super) fn new(
        client: Arc<Client>,
        options: Options,
        printer: Printer,
        queue: Arc<Queue>,
        batch: usize,
    ) -> Self {
        Self { client, options, printer, queue, batch, failed: HashMap::new(), paused: None }
    }

    /// Pushes until it is stopped, then all that is left once more. Tells when nothing came for so long.
    pub(super) async fn run(
        mut self,
        news: Arc<Notify>,
        idle: Option<(Duration, Arc<Notify>)>,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            let is_last = *stop.borrow_and_update();
            let Pass { left, next } = self.pass(is_last).await;
            if is_last {
                return;
            }
            let again = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            let rest = async {
                match &idle {
                    Some((time, _)) if left == 0 => tokio::time::sleep(*time).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                () = news.notified() => {}
                _ = stop.changed() => {}
                () = again => {}
                () = rest => {
                    if let Some((_, quiet)) = &idle {
                        quiet.notify_one();
                    }
                    let _ = stop.changed().await;
                }
            }
        }
    }

    /// Pushes all that is due; the last time, all there is.
    async fn pass(&mut self, is_last: bool) -> Pass {
        let mut tried = HashSet::new();
        loop {
            let queued = match self.queue.paths() {
                Ok(queued) => queued,
                Err(error) => return self.pause(&error, error.hint(), 1),
            };
            // What somebody gave up, by removing its link, is not waited for.
            self.failed.retain(|path, _| queued.contains(path));
            let (left, now) = (queued.len(), Instant::now());
            if let Some(Failures { until, .. }) = self.paused
                && !is_last
                && now < until
            {
                return Pass { left, next: Some(until) };
            }
            let is_due = |path: &StorePath| {
                if is_last {
                    !tried.contains(path)
                } else {
                    self.failed.get(path).is_none_or(|failures| failures.until <= now)
                }
            };
            let batch: Vec<StorePath> = queued.into_iter().filter(is_due).take(self.batch).collect();
            if batch.is_empty() {
                return Pass { left, next: self.failed.values().map(|failures| failures.until).min() };
            }
            tried.extend(batch.iter().cloned());
            if let Err(pass) = self.push(batch, left).await {
                return pass;
            }
        }
    }

    async fn push(&mut self, batch: Vec<StorePath>, left: usize) -> Result<(), Pass> {
        let (here, gone): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|path| Path::new(path.as_str()).symlink_metadata().is_ok());
        for path in &gone {
            self.printer.warn(&format!("{path} was deleted before it was pushed"));
        }
        let mut over = gone;
        if !here.is_empty() {
            let (began, under_way) = (Instant::now(), UnderWay::default());
            let pushed = push::push(&self.client, &here, self.options, self.printer, &under_way).await;
            let summary = pushed
                .map_err(|error| self.pause(&error, error.client().and_then(ClientError::hint), left))?;
            self.paused = None;
            tell(&summary, &self.client.host(), began, self.printer);
            for path in here {
                match summary.failed.iter().find(|(failed, _)| *failed == path) {
                    None | Some((_, PushError::Gone { .. })) => over.push(path),
                    Some(_) => {
                        let failures = Failures::after(self.failed.get(&path).copied());
                        self.failed.insert(path, failures);
                    }
                }
            }
        }
        for path in over {
            self.failed.remove(&path);
            self.queue.remove(&path).map_err(|error| self.pause(&error, error.hint(), left))?;
        }
        Ok(())
    }

    /// Nothing can be pushed for a while.
    fn pause(&mut self, error: &dyn std::error::Error, hint: Option<&str>, left: usize) -> Pass {
        let failures = Failures::after(self.paused);
        self.paused = Some(failures);
        self.printer.fail(error, hint);
        let wait = failures.until.saturating_duration_since(Instant::now()).as_secs_f64();
        self.printer.say(&format!("{} queued; tried again in {wait:.0} s", paths(left)));
        Pass { left, next: Some(failures.until) }
    }
}
