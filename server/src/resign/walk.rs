//! Going through narinfos in the order of their keys, a page at a time; those that are to change are claimed, written and
//! settled some at a time. To end it anywhere is what a crash does: whoever finds a size unknown writes again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ResignError;
use super::narinfo::{Body, renew};
use super::run::{Progress, change};
use crate::app::App;
use crate::db;
use crate::db::resign::{StoredNarinfo, Written};
use crate::signer::Keys;
use crate::writing::{self, Sent};

/// Narinfos read at a time.
const PAGE: i64 = 1000;
/// Narinfos claimed at a time.
const CLAIM: usize = 200;
/// So many failures in a row are S3's, not the narinfos'.
const STREAK: usize = 20;
/// Keys that are remembered for later; where there are more, all are looked at once more.
const LEFT: usize = 10_000;

pub(super) struct Walk<'a> {
    app: &'a App,
    progress: Progress,
    keys: Arc<Keys>,
    stop: &'a CancellationToken,
    /// Those to look at once more.
    left: Vec<String>,
    /// There are more of them than are remembered.
    again: bool,
    /// Failures since the last success.
    streak: usize,
    /// What S3 said when it first refused one.
    refusal: Option<String>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        app: &'a App,
        progress: Progress,
        keys: Arc<Keys>,
        stop: &'a CancellationToken,
    ) -> Self {
        Self { app, progress, keys, stop, left: Vec::new(), again: false, streak: 0, refusal: None }
    }

    pub(super) async fn all(&mut self) -> Result<(), ResignError> {
        loop {
            self.pages().await?;
            // Whoever writes them now, or did without an answer, is done at the latest after 2 T.
            while !self.left.is_empty() {
                self.pause(self.app.bucket.config().request_timeout).await?;
                let left = std::mem::take(&mut self.left);
                change(&self.progress, |state| state.counts.left -= as_count(left.len()));
                for keys in left.chunks(CLAIM) {
                    let mut conn = self.app.db.acquire().await?;
                    let stored = db::resign::list(&mut conn, keys).await?;
                    drop(conn);
                    // What is not live any more has nothing to be signed.
                    let gone = keys.len() - stored.len();
                    change(&self.progress, |state| state.counts.done += as_count(gone));
                    self.page(stored).await?;
                }
            }
            if !std::mem::take(&mut self.again) {
                break;
            }
            change(&self.progress, |state| {
                state.after = None;
                (state.counts.done, state.counts.left) = (0, 0);
            });
        }
        match (change(&self.progress, |state| state.counts.failed), self.refusal.take()) {
            (count, Some(message)) => Err(ResignError::Refused { count, message }),
            (_, None) => Ok(()),
        }
    }

    async fn pages(&mut self) -> Result<(), ResignError> {
        loop {
            let (after, since) = change(&self.progress, |state| (state.after.clone(), state.since));
            let mut conn = self.app.db.acquire().await?;
            let page =
                db::resign::list_after(&mut conn, after.as_deref().unwrap_or_default(), since, PAGE).await?;
            drop(conn);
            let Some(last) = page.last().map(|narinfo| narinfo.key.clone()) else { return Ok(()) };
            self.page(page).await?;
            change(&self.progress, |state| state.after = Some(last));
        }
    }

    async fn page(&mut self, page: Vec<StoredNarinfo>) -> Result<(), ResignError> {
        let (started, keys, count) = (Instant::now(), Arc::clone(&self.keys), page.len());
        let judged = tokio::task::spawn_blocking(move || {
            let mut compressor = writing::compressor()?;
            let judge = |narinfo: StoredNarinfo| match renew(&keys, &mut compressor, &narinfo) {
                Ok(body) => body.map(|body| (narinfo, body)),
                Err(problem) => {
                    tracing::warn!(key = narinfo.key, problem, "a narinfo that cannot be signed again");
                    None
                }
            };
            Ok(page.into_iter().filter_map(judge).collect::<Vec<_>>())
        });
        let judged = judged.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let changes = judged.map_err(sqlx::Error::Io)?;
        self.count("unchanged", count - changes.len());
        change(&self.progress, |state| state.counts.done += as_count(count - changes.len()));
        // Computing takes half of one core at most.
        self.pause(started.elapsed()).await?;
        let rate = usize::try_from(self.app.config.resign.rate).unwrap_or(usize::MAX);
        let chunk = if rate == 0 { CLAIM } else { CLAIM.min(rate) };
        for changes in changes.chunks(chunk) {
            let started = Instant::now();
            self.write(changes).await?;
            if let Some(time) =
                Duration::from_secs(as_count(changes.len())).checked_div(self.app.config.resign.rate)
            {
                self.pause(time.saturating_sub(started.elapsed())).await?;
            }
        }
        Ok(())
    }

    /// Claims, writes, settles (rule 13 of docs/gc.md).
    async fn write(&mut self, changes: &[(StoredNarinfo, Body)]) -> Result<(), ResignError> {
        let settle = self.app.bucket.config().settle_time();
        let send_until = Instant::now() + settle;
        let stored: Vec<&StoredNarinfo> = changes.iter().map(|(narinfo, _)| narinfo).collect();
        let mut conn = self.app.db.acquire().await?;
        let (until, claimed) = db::resign::claim(&mut conn, &stored, settle * 2).await?;
        drop(conn);
        let claimed: HashSet<i64> = claimed.into_iter().collect();
        let (mine, others): (Vec<_>, Vec<_>) =
            changes.iter().partition(|(narinfo, _)| claimed.contains(&narinfo.id));
        for (narinfo, _) in others {
            self.leave(&narinfo.key);
        }
        let requests: Vec<_> = mine.into_iter().map(|change| send(self.app, change, send_until)).collect();
        let sent: Vec<(&StoredNarinfo, &Body, Sent)> = futures::stream::iter(requests)
            .buffer_unordered(self.app.config.resign.concurrency)
            .collect()
            .await;
        let (mut written, mut released, mut worst) = (Written::default(), Vec::new(), None);
        let failed = sent.iter().filter(|(_, _, sent)| !matches!(sent, Sent::Written(_))).count();
        self.streak = if failed < sent.len() { 0 } else { self.streak + failed };
        for (narinfo, body, sent) in sent {
            match sent {
                Sent::Written(settled) => {
                    written.ids.push(narinfo.id);
                    written.sizes.push(i64::try_from(body.bytes.len()).unwrap_or(i64::MAX));
                    written.signatures.push(body.signatures.clone());
                    written.settled.push(settled);
                }
                Sent::Refused(settled, error) => {
                    if settled {
                        released.push(narinfo.id);
                    }
                    self.count("failed", 1);
                    change(&self.progress, |state| state.counts.failed += 1);
                    self.refusal.get_or_insert_with(|| error.message.clone());
                    worst = Some(error);
                }
                Sent::Unknown(error) => {
                    self.leave(&narinfo.key);
                    worst = Some(error);
                }
                Sent::Late => self.leave(&narinfo.key),
            }
        }
        let mut conn = self.app.db.acquire().await?;
        db::resign::settle(&mut conn, &written, until).await?;
        if !released.is_empty() {
            db::resign::release(&mut conn, &released, until).await?;
        }
        self.count("signed", written.ids.len());
        change(&self.progress, |state| {
            state.counts.done += as_count(written.ids.len());
            state.counts.signed += as_count(written.ids.len());
        });
        match worst {
            Some(error) if self.streak >= STREAK => Err(ResignError::Bucket(error)),
            _ => Ok(()),
        }
    }

    fn leave(&mut self, key: &str) {
        change(&self.progress, |state| state.counts.left += 1);
        if self.left.len() < LEFT {
            self.left.push(key.to_owned());
        } else {
            self.again = true;
        }
    }

    fn count(&self, outcome: &'static str, narinfos: usize) {
        self.app.metrics.count_resigned(outcome, as_count(narinfos));
    }

    /// Between two batches: then nothing is half done.
    async fn pause(&self, time: Duration) -> Result<(), ResignError> {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.stop.cancelled() => {}
        }
        if self.stop.is_cancelled() { Err(ResignError::Stopped) } else { Ok(()) }
    }
}

/// Sends one, and says what became of it.
async fn send<'a>(
    app: &App,
    (narinfo, body): &'a (StoredNarinfo, Body),
    until: Instant,
) -> (&'a StoredNarinfo, &'a Body, Sent) {
    (narinfo, body, writing::send(app, &body.key, &body.bytes, until, true).await)
}

fn as_count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
