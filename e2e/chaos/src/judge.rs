//! The judge: compares what clients were told, rows and bucket, on a straight way past all faults.

pub mod end;
pub mod walk;

use std::collections::{BTreeMap, BTreeSet};

use niks3_protocol::duration::GoDuration;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::world::World;

/// A run that was declared failed ends within so long: its next sign of life tells it so.
const ENDS_WITHIN: Duration = Duration::seconds(15);

/// Judges again and again while the run goes on.
pub async fn watch(world: &World) {
    while world.going_on() {
        if let Err(error) = judge(world).await {
            world.break_promise("judge", &format!("cannot judge: {error:#}"));
        }
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    }
}

/// Judges once.
pub async fn judge(world: &World) -> anyhow::Result<()> {
    for lost in lost_closures(world).await? {
        world.break_promise("judge", &lost);
    }
    let before = closures(world).await?;
    let mut known: BTreeMap<usize, Option<String>> = BTreeMap::new();
    let mut suspects = Vec::new();
    for (root, path) in world.universe.paths.iter().enumerate() {
        let Some(created) = before.get(&path.key()) else { continue };
        for index in &path.closure {
            let missing = match known.get(index) {
                Some(missing) => missing.clone(),
                None => walk::look(world, *index).await?,
            };
            known.insert(*index, missing.clone());
            suspects.extend(missing.map(|missing| (root, created, missing)));
        }
    }
    if !suspects.is_empty() {
        // One that was collected meanwhile, and perhaps pushed again, was allowed to lack something.
        let after = closures(world).await?;
        for (root, created, missing) in suspects {
            let path = &world.universe.paths[root];
            if after.get(&path.key()) == Some(created) {
                let path = &path.store_path;
                world.break_promise(
                    "judge",
                    &format!("the committed closure {path} is incomplete: {missing}"),
                );
            }
        }
    }
    world.history.note("judge", "judged", &json!(before.len()));
    Ok(())
}

/// Committed roots, and since when.
async fn closures(world: &World) -> anyhow::Result<BTreeMap<String, OffsetDateTime>> {
    let rows = sqlx::query_as("select key, created_at from closures").fetch_all(&world.place.db).await?;
    Ok(rows.into_iter().collect())
}

/// Roots whose push or pin was acknowledged, that are not there, and that no collection may have taken.
#[expect(clippy::disallowed_methods, reason = "the judge is not cancelled, and only reads")]
async fn lost_closures(world: &World) -> anyhow::Result<Vec<String>> {
    let pushed = world.ledger.pushed.lock().map(|pushed| pushed.clone()).unwrap_or_default();
    let pinned = world.ledger.pinned.lock().map(|pinned| pinned.clone()).unwrap_or_default();
    let mut snapshot = world.place.db.begin().await?;
    sqlx::raw_sql("set transaction isolation level repeatable read").execute(&mut *snapshot).await?;
    let there: Vec<String> = sqlx::query_scalar("select key from closures").fetch_all(&mut *snapshot).await?;
    let runs: Vec<(String, Option<OffsetDateTime>, bool)> = sqlx::query_as(
        "select params ->> 'older_than', finished_at, state = 'failed' from gc_runs
         where finished_at is null or finished_at > now() - interval '1 hour'",
    )
    .fetch_all(&mut *snapshot)
    .await?;
    snapshot.commit().await?;
    let there: BTreeSet<String> = there.into_iter().collect();
    let now = OffsetDateTime::now_utc();
    let mut may_take = Vec::new();
    for (older_than, finished_at, failed) in runs {
        let older_than: GoDuration = older_than.parse()?;
        let end = finished_at.map_or(now, |at| if failed { at + ENDS_WITHIN } else { at });
        // What was pushed at this moment or before may have been old enough.
        may_take.push(end - older_than.0);
    }
    let newest = may_take.into_iter().max().unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let path = |root: &usize| &world.universe.paths[*root];
    let is_lost = |root: &usize| !there.contains(&path(root).key());
    let lost_pins = pinned
        .iter()
        .filter(|(root, _)| is_lost(root))
        .map(|(root, at)| format!("{} was pinned at {at}, and its closure is gone", path(root).store_path));
    let lost_pushes =
        pushed.iter().filter(|(root, sent)| is_lost(root) && **sent > newest).map(|(root, sent)| {
            format!(
                "the push of {} at {sent} was acknowledged and is gone; no collection may have taken it",
                path(root).store_path
            )
        });
    Ok(lost_pins.chain(lost_pushes).collect())
}
