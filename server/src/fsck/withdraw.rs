//! Giving up what was lost: it becomes expected, closures that reach it incomplete, and narinfos that lead to it are
//! withdrawn: no reader is led to what is not there, and the next push sends all of it.
//!
//! That may be most of a cache, so it goes in transactions of some milliseconds each, from what was lost upwards:
//!
//! 1. What was lost becomes expected. From then on no commit that has it takes it for there.
//! 2. Commits under way may have done so a moment before: they are waited for.
//! 3. What leads there is read, without a lock.
//! 4. Of that each live narinfo that itself refers to what is not live is claimed as by a collection, and its closure,
//!    where it is the root of one, becomes incomplete in the same transaction. A commit that brings back what it
//!    refers to has that locked: either the commit was first, and the narinfo stays, or it finds the narinfo gone.
//!
//! What was given up and withdrawn is noted until all of it is done. Whoever repairs next goes on with what is noted.

use tokio::time::Instant;

use super::Report;
use super::repair::{FSCK, count, delete};
use crate::app::App;
use crate::db;
use crate::db::marks::{Claimed, STATEMENT};
use crate::db::repairs::Broken;

/// Deadlocks with pushes are broken by running a transaction again, so often at most.
const ATTEMPTS: u32 = 5;

/// What one transaction did.
#[derive(Default)]
struct Done {
    broken: Vec<i64>,
    claimed: Vec<Claimed>,
    incomplete_closures: u64,
}

/// What a transaction begins with.
#[derive(Clone, Copy)]
enum Step<'a> {
    GiveUp(&'a [String]),
    Withdraw(&'a [i64]),
}

/// Gives these keys up as far as they are still live, and withdraws what leads there.
pub(super) async fn give_up(app: &App, report: &mut Report<'_>, lost: &[String]) -> anyhow::Result<()> {
    let mut broken = Vec::new();
    for keys in lost.chunks(STATEMENT) {
        let given_up = step(app, report, Step::GiveUp(keys)).await?;
        report.summary.repaired += count(given_up.len());
        broken.extend(given_up);
    }
    withdraw(app, report, broken).await
}

/// Goes on with what a repair left that was interrupted.
pub(super) async fn resume(app: &App, report: &mut Report<'_>) -> anyhow::Result<()> {
    let mut conn = app.db.acquire().await?;
    let noted = db::repairs::list_noted(&mut conn).await?;
    drop(conn);
    if noted.is_empty() {
        return Ok(());
    }
    tracing::info!(count = noted.len(), "going on with a repair that was interrupted");
    withdraw(app, report, noted).await
}

/// Says that a repair was interrupted.
pub(super) async fn find_interrupted(app: &App, report: &mut Report<'_>) -> anyhow::Result<()> {
    let mut conn = app.db.acquire().await?;
    let (count, Some(key)) = db::repairs::count_noted(&mut conn).await? else { return Ok(()) };
    report.summary.incomplete += 1;
    let what = "and narinfos may still lead there: a repair was interrupted, or is under way";
    report.find("incomplete", &key, format!("{count} objects were given up or withdrawn, {what}"))
}

async fn withdraw(app: &App, report: &mut Report<'_>, mut broken: Vec<i64>) -> anyhow::Result<()> {
    if broken.is_empty() {
        return Ok(());
    }
    wait_for_commits(app).await?;
    let mut conn = app.db.acquire().await?;
    let mut waiting = db::repairs::list_dependents(&mut conn, &broken).await?;
    drop(conn);
    // One may come before what it refers to: again, while that changes anything. What then stays is whole again.
    loop {
        let before = waiting.len();
        let mut left = Vec::new();
        for ids in waiting.chunks(STATEMENT) {
            let done = step(app, report, Step::Withdraw(ids)).await?;
            left.extend(ids.iter().filter(|id| !done.contains(id)));
            broken.extend(done);
        }
        waiting = left;
        if waiting.is_empty() || waiting.len() == before {
            break;
        }
    }
    if find_left(app, report, &waiting).await? {
        return Ok(());
    }
    let mut conn = app.db.acquire().await?;
    for ids in broken.chunks(STATEMENT) {
        db::repairs::forget(&mut conn, ids).await?;
    }
    Ok(())
}

/// A commit has its upload locked from before it looks at its objects until its end.
async fn wait_for_commits(app: &App) -> anyhow::Result<()> {
    let mut conn = app.db.acquire().await?;
    for upload in db::uploads::list_ids(&mut conn).await? {
        db::uploads::wait_for(&mut conn, upload).await?;
    }
    Ok(())
}

/// Whether narinfos still lead to what is lost, as a write of them may be under way, which would bring them back.
async fn find_left(app: &App, report: &mut Report<'_>, ids: &[i64]) -> anyhow::Result<bool> {
    let mut found = false;
    for ids in ids.chunks(STATEMENT) {
        let mut transaction = db::begin(&app.db).await?;
        for Broken { key, .. } in db::repairs::lock_dependents(&mut transaction, ids).await? {
            found = true;
            report.summary.incomplete += 1;
            let why = "it leads to what is lost, and is being written or signed; run this again";
            report.find("incomplete", &key, why.to_owned())?;
        }
    }
    Ok(found)
}

/// One transaction, and the deletions it makes way for; gives what is broken now, and was not.
async fn step(app: &App, report: &mut Report<'_>, step: Step<'_>) -> anyhow::Result<Vec<i64>> {
    let mut attempt = 1;
    let (asked_at, done) = loop {
        let asked_at = Instant::now();
        match transact(app, step).await {
            Err(error) if attempt < ATTEMPTS && db::is_retryable(&error) => attempt += 1,
            result => break (asked_at, result?),
        }
    };
    let Done { broken, claimed, incomplete_closures } = done;
    report.summary.incomplete_closures += incomplete_closures;
    if !claimed.is_empty() {
        let (confirmed, refused) = delete(app, &claimed, asked_at).await;
        report.summary.withdrawn += count(confirmed.len());
        let mut conn = app.db.acquire().await?;
        db::repairs::set_withdrawn(&mut conn, FSCK, &[confirmed, refused].concat()).await?;
    }
    Ok(broken)
}

async fn transact(app: &App, step: Step<'_>) -> sqlx::Result<Done> {
    let mut transaction = db::begin(&app.db).await?;
    let conn = &mut *transaction;
    let found = match step {
        Step::GiveUp(keys) => db::repairs::lock_lost(conn, keys).await?,
        Step::Withdraw(ids) => db::repairs::lock_dependents(conn, ids).await?,
    };
    if found.is_empty() {
        return Ok(Done::default());
    }
    let ids_of = |of: fn(&Broken) -> bool| -> Vec<i64> {
        found.iter().filter(|broken| of(broken)).map(|broken| broken.id).collect()
    };
    let claim = ids_of(|broken| broken.narinfo && broken.settled);
    // What was lost is expected, whatever it is. So is what leads there and is no narinfo: it is sent again.
    let (expect, broken) = match step {
        Step::GiveUp(_) => (ids_of(|_| true), ids_of(|_| true)),
        Step::Withdraw(_) => {
            (ids_of(|broken| !broken.narinfo), ids_of(|broken| !broken.narinfo || broken.settled))
        }
    };
    let keys: Vec<String> = found.iter().map(|broken| broken.key.clone()).collect();
    db::repairs::expect(conn, &expect).await?;
    let claimed = db::repairs::claim(conn, FSCK, &claim).await?;
    let incomplete_closures = db::repairs::set_incomplete(conn, &keys).await?;
    db::repairs::note(conn, &broken).await?;
    transaction.commit().await?;
    Ok(Done { broken, claimed, incomplete_closures })
}
