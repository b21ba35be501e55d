//! Deleting one path and all that depends on it, at once: a leaked secret. A run like any other with its own
//! decision: what keeps the path is dropped, and only what these paths alone reach is claimed (docs/gc.md).

use std::collections::BTreeSet;
use std::time::Duration;

use niks3_protocol::api::gc::plan::{DropRule, GcPlan};
use niks3_protocol::api::gc::{Delete, GcParams, GcPhase};
use tokio_util::sync::CancellationToken;

use super::back::Back;
use super::bits::BitSet;
use super::decide::{Decision, Root};
use super::mark::Mark;
use super::report;
use super::run::Progress;
use super::snapshot::{self, Snapshot};
use super::{GcError, blocking, expire, mark, signed, sweep};
use crate::app::App;
use crate::{db, push};

/// Paths the plan names.
const LISTED: usize = 1000;

/// What a deletion finds in a snapshot.
struct Found {
    decision: Decision,
    /// The path, and all that leads to it: narinfos, the path's own first.
    paths: Vec<u32>,
    /// What these reach: nothing else is condemned or claimed.
    scope: BitSet,
    /// Pushes under way that have one of the paths.
    uploads: Vec<i64>,
    /// Paths that stay and have the NAR, listing or log of the path too.
    sharing: Vec<u32>,
}

/// From the first look to the last claim.
pub(super) async fn run(
    app: &App,
    params: &GcParams,
    delete: &Delete,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<(), GcError> {
    progress.enter(GcPhase::CleanupOldClosures);
    let (snapshot, mut found) = look(app, params, delete, stop).await?;
    let plan = plan(app, &snapshot, &found, delete).await?;
    if params.dry_run {
        progress.count(|stats| *stats = report::stats(&plan));
    }
    let mut conn = app.db.acquire().await?;
    db::gc_runs::set_plan(&mut conn, progress.id, &serde_json::to_value(&plan)?).await?;
    drop(conn);
    if params.dry_run {
        return Ok(());
    }
    if let Some(held) = held(&found).filter(|_| !delete.force) {
        return Err(GcError::Held(held));
    }

    // Its commit finds it gone, so nothing is built on what goes; its client begins anew.
    if !found.uploads.is_empty() {
        let mut conn = app.db.acquire().await?;
        db::uploads::delete_all(&mut conn, &found.uploads).await?;
        drop(conn);
        progress.count(|stats| stats.failed_uploads_deleted += signed(found.uploads.len()));
    }
    for object in expire::expire(app, progress, &found.decision, stop).await? {
        if let Some(index) = snapshot.graph.index_of(object) {
            snapshot.graph.extend(&mut found.decision.kept, index);
        }
    }
    let paths: Vec<i64> = found.paths.iter().map(|index| snapshot.graph.id(*index)).collect();

    progress.enter(GcPhase::CleanupOrphanObjects);
    mark::condemn(app, progress, &mark_of(snapshot, found), stop).await?;
    // What the first mark condemned was condemned before this one's snapshot (rule 7).
    let (snapshot, mut found) = look(app, params, delete, stop).await?;
    found.decision.kept.clone_from(&found.decision.protected);
    let mark = mark_of(snapshot, found);
    mark::condemn(app, progress, &mark, stop).await?;
    sweep::sweep(app, progress, mark, Duration::ZERO, stop).await?;
    if !delete.force {
        return finish(app, progress, &paths).await;
    }
    push::clear_abandoned(app).await?;
    finish(app, progress, &paths).await
}

/// Whether all of it went.
async fn finish(app: &App, progress: &Progress, paths: &[i64]) -> Result<(), GcError> {
    let mut conn = app.db.acquire().await?;
    let left = db::roots::describe(&mut conn, paths).await?;
    if let Some((_, key, store_path)) = left.first() {
        let name = store_path.as_ref().unwrap_or(key);
        return Err(GcError::Left(format!(
            "{} of the paths are there still, such as {name}: pushed again meanwhile, being written, or the bucket did \
             not delete them; run it again, where it gave no answer after {:?}",
            left.len(),
            app.bucket.config().settle_time()
        )));
    }
    match progress.failed() {
        0 => Ok(()),
        count => Err(GcError::Left(format!(
            "no reader finds the paths any more, but of {count} of their NARs or listings the bucket did not confirm the \
             deletion; what it gave no answer to is sent again after {:?}, the rest by the next collection",
            app.bucket.config().settle_time()
        ))),
    }
}

fn mark_of(snapshot: Snapshot, found: Found) -> Mark {
    Mark::new(snapshot.graph, snapshot.taken_at, found.decision).within(found.scope)
}

async fn look(
    app: &App,
    params: &GcParams,
    delete: &Delete,
    stop: &CancellationToken,
) -> Result<(Snapshot, Found), GcError> {
    let key = format!("{}.narinfo", delete.hash);
    let mut conn = app.db.acquire().await?;
    let row = db::objects::list_states(&mut conn, std::slice::from_ref(&key)).await?.pop();
    drop(conn);
    let snapshot = snapshot::read(app, 0, params, stop).await?;
    let Some(target) = row.and_then(|row| snapshot.graph.index_of(row.id)) else {
        return Err(GcError::NotThere(key));
    };
    let force = delete.force;
    blocking(move || {
        let found = decide(&snapshot, target, force);
        (snapshot, found)
    })
    .await
}

fn decide(snapshot: &Snapshot, target: u32, force: bool) -> Found {
    let graph = &snapshot.graph;
    let back = Back::to(graph, target);
    let leads = |object: i64| graph.index_of(object).is_some_and(|index| back.contains(index));
    let uploads: BTreeSet<i64> =
        snapshot.uploads.iter().filter(|(_, object)| leads(*object)).map(|(upload, _)| *upload).collect();
    let staying = snapshot.closures.iter().map(|closure| closure.object).filter(|object| !leads(*object));
    let under_way = snapshot.uploads.iter().filter(|(upload, _)| !(force && uploads.contains(upload)));
    let roots = staying.chain(under_way.map(|(_, object)| *object));
    let kept = graph.reachable(roots.filter_map(|object| graph.index_of(object)));
    let mut dropped = Vec::new();
    let mut protected = kept.clone();
    for closure in &snapshot.closures {
        let Some(index) = graph.index_of(closure.object).filter(|index| back.contains(*index)) else {
            continue;
        };
        graph.extend(&mut protected, index);
        let (rule, last_used, closure) = (DropRule::Delete, closure.updated_at, Some(*closure));
        dropped.push(Root { index, rule, last_used, closure });
    }
    let pins = snapshot.pins.iter().filter(|pin| leads(pin.object));
    let dropped_pins = pins.map(|pin| (pin.clone(), String::new())).collect();
    let own: Vec<u32> =
        graph.refs(target).iter().copied().filter(|index| !graph.narinfos.contains(*index)).collect();
    let shares = |index: &u32| !back.contains(*index) && graph.refs(*index).iter().any(|to| own.contains(to));
    Found {
        scope: graph.reachable(back.indexes().iter().copied()),
        sharing: graph.indexes().filter(|index| !own.contains(index)).filter(shares).collect(),
        paths: back.indexes().to_vec(),
        uploads: uploads.into_iter().collect(),
        decision: Decision {
            kept,
            protected,
            kept_roots: Vec::new(),
            dropped,
            dropped_pins,
            notes: Vec::new(),
        },
    }
}

/// What would have to be dropped by force.
fn held(found: &Found) -> Option<String> {
    let names: Vec<&str> = found.decision.dropped_pins.iter().map(|(pin, _)| pin.name.as_str()).collect();
    let pins = match names.as_slice() {
        [] => None,
        [one] => Some(format!("the pin {one}")),
        _ => Some(format!("the pins {}", names.join(", "))),
    };
    let pushes = match found.uploads.len() {
        0 => None,
        count => Some(format!("{count} unfinished push{}", if count == 1 { "" } else { "es" })),
    };
    let by: Vec<String> = pins.into_iter().chain(pushes).collect();
    (!by.is_empty()).then(|| by.join(" and "))
}

async fn plan(app: &App, snapshot: &Snapshot, found: &Found, delete: &Delete) -> Result<GcPlan, GcError> {
    let Found { decision, paths, scope, sharing, .. } = found;
    let goes = |index| scope.contains(index) && !decision.kept.contains(index);
    let mut plan =
        report::finish(report::draft_deletion(snapshot, decision, goes), decision, &app.db).await?;
    let mut conn = app.db.acquire().await?;
    let ids = |indexes: &[u32]| -> Vec<i64> {
        indexes.iter().take(LISTED).map(|index| snapshot.graph.id(*index)).collect()
    };
    let named = |rows: Vec<(i64, String, Option<String>)>| {
        let mut names: Vec<String> =
            rows.into_iter().map(|(_, key, store_path)| store_path.unwrap_or(key)).collect();
        names.sort_unstable_by(|one, other| name_of(one).cmp(name_of(other)));
        names
    };
    plan.paths = named(db::roots::describe(&mut conn, &ids(paths)).await?);
    plan.paths_deleted = signed(paths.len());
    plan.uploads_expired = signed(found.uploads.len());
    if !sharing.is_empty() {
        let names = named(db::roots::describe(&mut conn, &ids(sharing)).await?).join(", ");
        plan.notes.push(format!(
            "the NAR, listing or log of the path is also that of {names}, which do not depend on it: it stays for these"
        ));
    }
    if let Some(held) = held(found).filter(|_| !delete.force) {
        plan.notes.push(format!("a deletion would stop: {held} would have to go too, which only force does"));
    }
    Ok(plan)
}

/// What stands behind the hash.
fn name_of(path: &str) -> &str {
    let base = path.rsplit_once('/').map_or(path, |(_, base)| base);
    base.split_once('-').map_or(base, |(_, name)| name)
}
