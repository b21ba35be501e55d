//! `niks3-server fsck` and `POST /api/fsck`: compares bucket and rows, and makes rows of what others wrote into the bucket.
//!
//! Two listings, both in the order of their keys, are merged: memory does not grow with the cache. Pushes and
//! collections may go on. What differs is looked at once more by itself, and what a push or a collection is at
//! is no finding.

mod adopt;
mod merge;
mod pins;
mod progress;
mod protect;
mod realisations;
mod repair;
mod run;
mod sound;
mod withdraw;

use std::io::Write;
use std::time::Duration;

use anyhow::Context as _;
use niks3_protocol::api::fsck::FsckFinding;
use niks3_protocol::object_key::ObjectKey;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::app::App;
use crate::bucket::Listed;
use crate::db;
use crate::db::fsck::Row;
use crate::storage;
pub(crate) use adopt::ADOPTED;
use merge::{Pair, Pairs};
use repair::Repairs;
pub use run::{FsckError, abort, find, list, start, status};
use sound::{damage, is_sound};

/// How often it says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Make rows of narinfos that have none, and of what they need.
    pub adopt: bool,
    /// Give up what was lost, so that it is pushed again, and delete what no push committed.
    pub repair: bool,
    /// Read every NAR and compare its hash.
    pub deep: bool,
    /// Compare only keys after this one.
    pub after: Option<String>,
    /// An object without a row may belong to a push for so long.
    pub young: Duration,
}

/// How it went: the last line of the report.
pub use niks3_protocol::api::fsck::FsckSummary as Summary;

/// Who is told what is found, and how far it is.
trait Sink: Send {
    fn find(&mut self, finding: FsckFinding) -> anyhow::Result<()>;

    /// Everything up to this key is compared, and repaired.
    fn reach(&mut self, after: &str, summary: &Summary);

    /// How often it wants to know.
    fn pause(&self) -> Duration {
        PROGRESS
    }
}

/// One line of the report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Finding(&'a FsckFinding),
    Summary(&'a Summary),
}

/// A line of JSON for each finding as it is found; the log says how far it is.
struct Lines<'a>(&'a mut (dyn Write + Send));

impl Lines<'_> {
    fn line(&mut self, line: &Line<'_>) -> anyhow::Result<()> {
        writeln!(self.0, "{}", serde_json::to_string(line)?).context("writing the report")
    }
}

impl Sink for Lines<'_> {
    fn find(&mut self, finding: FsckFinding) -> anyhow::Result<()> {
        self.line(&Line::Finding(&finding))
    }

    fn reach(&mut self, after: &str, summary: &Summary) {
        let count = summary.objects;
        tracing::info!(count, after, "fsck goes on; --after begins where this one is");
    }
}

/// What was found so far, and who is told.
struct Report<'a> {
    sink: &'a mut dyn Sink,
    summary: Summary,
}

impl Report<'_> {
    fn find(&mut self, kind: &str, key: &str, detail: String) -> anyhow::Result<()> {
        self.sink.find(FsckFinding { kind: kind.to_owned(), key: key.to_owned(), detail })
    }
}

/// Runs to the end; the report goes to `out`.
pub async fn run(app: &App, options: &Options, out: &mut (dyn Write + Send)) -> anyhow::Result<Summary> {
    let mut lines = Lines(out);
    let summary = walk(app, options, Summary::default(), &mut lines).await?;
    lines.line(&Line::Summary(&summary))?;
    Ok(summary)
}

/// The same, on top of what was found before.
async fn walk(
    app: &App,
    options: &Options,
    summary: Summary,
    sink: &mut dyn Sink,
) -> anyhow::Result<Summary> {
    storage::check_identity(app, options.adopt).await?;
    let mut report = Report { sink, summary };
    if options.adopt {
        adopt::adopt(app, &mut report).await?;
    }
    compare(app, options, &mut report).await?;
    Ok(report.summary)
}

async fn compare(app: &App, options: &Options, report: &mut Report<'_>) -> anyhow::Result<()> {
    if options.repair {
        withdraw::resume(app, report).await?;
    } else {
        withdraw::find_interrupted(app, report).await?;
    }
    let mut pairs = Pairs::after(options.after.clone().unwrap_or_default());
    let (mut repairs, mut said, pause) = (Repairs::default(), Instant::now(), report.sink.pause());
    while let Some(pair) = pairs.next(app).await? {
        report.summary.objects += u64::from(!matches!(pair, Pair::Row(_)));
        report.summary.rows += u64::from(!matches!(pair, Pair::Object(_)));
        let key = pair.key().to_owned();
        match pair {
            Pair::Both(object, row) => {
                compare_both(app, options, report, &mut repairs, &object, &row).await?;
            }
            Pair::Row(row) if row.live => look_for(app, options, report, &mut repairs, &row.key).await?,
            Pair::Row(_) => {}
            Pair::Object(object) => judge_stray(app, options, report, &mut repairs, &object).await?,
        }
        if said.elapsed() >= pause {
            said = Instant::now();
            // Those up to this key are repaired when it is named.
            repairs.finish(app, report).await?;
            report.sink.reach(&key, &report.summary);
        }
    }
    repairs.finish(app, report).await
}

async fn find_row(app: &App, key: &str) -> anyhow::Result<Option<Row>> {
    let mut conn = app.db.acquire().await?;
    Ok(db::fsck::find_row(&mut conn, key).await?)
}

/// A live row without an object in the listing. Live before and after, the object has to be there in between.
async fn look_for(
    app: &App,
    options: &Options,
    report: &mut Report<'_>,
    repairs: &mut Repairs,
    key: &str,
) -> anyhow::Result<()> {
    let is_live = |row: Option<Row>| row.is_some_and(|row| row.live);
    if is_live(find_row(app, key).await?)
        && app.bucket.head(key).await?.is_none()
        && is_live(find_row(app, key).await?)
    {
        report.summary.missing += 1;
        report.find("missing", key, "its row is live, and it is not in the bucket".to_owned())?;
        if options.repair {
            repairs.lost(app, report, key).await?;
        }
    }
    Ok(())
}

async fn compare_both(
    app: &App,
    options: &Options,
    report: &mut Report<'_>,
    repairs: &mut Repairs,
    object: &Listed,
    row: &Row,
) -> anyhow::Result<()> {
    let key = object.key.as_str();
    let differs = |row: &Row, size| row.live && row.stored_size.is_some_and(|stored| stored != size);
    if differs(row, object.size) {
        let Some(head) = app.bucket.head(key).await? else {
            return look_for(app, options, report, repairs, key).await;
        };
        let Some(row) = find_row(app, key).await?.filter(|row| differs(row, head.size)) else {
            return Ok(());
        };
        report.summary.other_size += 1;
        let stored = row.stored_size.unwrap_or(0);
        report.find("other_size", key, format!("{} bytes, and {stored} were committed", head.size))?;
        if options.repair && is_sound(app, key).await? {
            let mut conn = app.db.acquire().await?;
            db::fsck::set_stored_size(&mut conn, key, head.size).await?;
            report.summary.repaired += 1;
        } else if options.repair {
            repairs.lost(app, report, key).await?;
        }
    } else if options.deep && row.live && repair::is_nar(key) {
        report.summary.nars_read += 1;
        if let Some(wrong) = damage(app, key).await?
            && find_row(app, key).await?.is_some_and(|row| row.live)
        {
            report.summary.damaged += 1;
            report.find("damaged", key, wrong)?;
            if options.repair {
                repairs.lost(app, report, key).await?;
            }
        }
    }
    Ok(())
}

/// An object without a row.
async fn judge_stray(
    app: &App,
    options: &Options,
    report: &mut Report<'_>,
    repairs: &mut Repairs,
    object: &Listed,
) -> anyhow::Result<()> {
    if object.key.parse::<ObjectKey>().is_err() {
        report.summary.foreign += 1;
        return Ok(());
    }
    let age = OffsetDateTime::now_utc().unix_timestamp() - object.modified;
    if u64::try_from(age).unwrap_or(0) < options.young.as_secs() {
        report.summary.young += 1;
    } else if find_row(app, &object.key).await?.is_none() && app.bucket.head(&object.key).await?.is_some() {
        report.summary.without_row += 1;
        report.find("without_row", &object.key, format!("{} bytes that no push committed", object.size))?;
        if options.repair {
            repairs.stray(app, report, &object.key).await?;
        }
    }
    Ok(())
}
