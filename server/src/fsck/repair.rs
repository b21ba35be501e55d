//! Repairing: what was lost is sent anew by the next push, and what no push committed goes. By the steps of docs/gc.md,
//! so pushes and collections may go on.

use niks3_protocol::object_key::ObjectKind;
use tokio::time::Instant;

use super::{Report, withdraw};
use crate::app::App;
use crate::bucket::{Deletion, MAX_DELETE_KEYS};
use crate::db::marks::{Claimed, STATEMENT};
use crate::{db, writing};

/// Lost objects given up before what leads there is looked for, which reads all references once.
const BATCH: usize = 1000;
/// Who claims, in place of a run: a collection takes over what has no answer.
pub(super) const FSCK: i64 = 0;

/// What waits to be repaired: so memory does not grow with the damage.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    lost: Vec<String>,
    strays: Vec<String>,
}

impl Repairs {
    /// An object that is not in the bucket, or not what was committed.
    pub(super) async fn lost(&mut self, app: &App, report: &mut Report<'_>, key: &str) -> anyhow::Result<()> {
        self.lost.push(key.to_owned());
        if self.lost.len() >= BATCH { self.give_up(app, report).await } else { Ok(()) }
    }

    /// An object that no push committed.
    pub(super) async fn stray(
        &mut self,
        app: &App,
        report: &mut Report<'_>,
        key: &str,
    ) -> anyhow::Result<()> {
        self.strays.push(key.to_owned());
        if self.strays.len() >= MAX_DELETE_KEYS { self.delete_strays(app, report).await } else { Ok(()) }
    }

    /// Repairs what still waits.
    pub(super) async fn finish(&mut self, app: &App, report: &mut Report<'_>) -> anyhow::Result<()> {
        self.delete_strays(app, report).await?;
        self.give_up(app, report).await
    }

    async fn give_up(&mut self, app: &App, report: &mut Report<'_>) -> anyhow::Result<()> {
        let lost = std::mem::take(&mut self.lost);
        if lost.is_empty() { Ok(()) } else { withdraw::give_up(app, report, &lost).await }
    }

    /// A key without a row is claimed by making it one: a push that begins meanwhile waits for the deletion.
    async fn delete_strays(&mut self, app: &App, report: &mut Report<'_>) -> anyhow::Result<()> {
        let strays = std::mem::take(&mut self.strays);
        if strays.is_empty() {
            return Ok(());
        }
        let asked_at = Instant::now();
        let mut conn = app.db.acquire().await?;
        let mut claimed = Vec::new();
        for strays in strays.chunks(STATEMENT) {
            claimed.extend(db::fsck::claim_strays(&mut conn, FSCK, strays).await?);
        }
        drop(conn);
        let (confirmed, refused) = delete(app, &claimed, asked_at).await;
        report.summary.deleted += count(confirmed.len());
        report.summary.repaired += count(strays.len() - claimed.len() + confirmed.len());
        let mut conn = app.db.acquire().await?;
        for confirmed in confirmed.chunks(STATEMENT) {
            db::marks::remove(&mut conn, FSCK, confirmed).await?;
        }
        for refused in refused.chunks(STATEMENT) {
            db::marks::give_back(&mut conn, FSCK, refused).await?;
        }
        Ok(())
    }
}

/// Sends one delete; the ids that were confirmed, and those that were refused. What has no answer stays claimed, and
/// after a claim that took long nothing is sent (rules 6 and 8).
pub(super) async fn delete(app: &App, claimed: &[Claimed], asked_at: Instant) -> (Vec<i64>, Vec<i64>) {
    let (mut confirmed, mut refused) = (Vec::new(), Vec::new());
    if claimed.is_empty() || asked_at.elapsed() > app.bucket.config().request_timeout {
        return (confirmed, refused);
    }
    for (object, outcome) in claimed.iter().zip(writing::delete(app, claimed).await) {
        match outcome {
            Deletion::Confirmed => confirmed.push(object.id),
            Deletion::Refused(message) => {
                tracing::warn!(key = object.key, message, "the bucket refuses to delete it");
                refused.push(object.id);
            }
            Deletion::Unknown(message) => {
                tracing::warn!(key = object.key, message, "no answer; the next collection deletes it again");
            }
        }
    }
    (confirmed, refused)
}

pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Whether what is in the bucket under a key can be held against what was committed.
pub(super) fn is_nar(key: &str) -> bool {
    key.parse::<niks3_protocol::object_key::ObjectKey>().is_ok_and(|key| key.kind() == ObjectKind::Nar)
}
