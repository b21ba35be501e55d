//! Why a path is kept, and what takes the space: what a collection would see, and nothing is changed.
//!
//! Each takes the time and memory of a mark, so one goes at a time.

use std::collections::HashMap;

use niks3_protocol::api::gc::GcParams;
use niks3_protocol::api::gc::plan::{Amount, KeepRule};
use niks3_protocol::api::usage::{Standing, Usage, UsageRoot, Why, WhyRoot};
use niks3_protocol::nix::StorePathHash;
use time::{OffsetDateTime, Time};
use tokio_util::sync::CancellationToken;

use super::back::Back;
use super::bits::BitSet;
use super::decide::{Decision, decide};
use super::run::grace;
use super::snapshot::{self, Snapshot};
use super::{GcError, blocking, signed};
use crate::app::App;
use crate::db;

/// Roots that are named.
const LISTED: usize = 20;
/// Runs among which the last policy is looked for.
const RUNS: i64 = 1000;

/// What keeps a path; `None` where the cache does not have it.
pub async fn why(app: &App, hash: &StorePathHash) -> Result<Option<Why>, GcError> {
    let key = format!("{hash}.narinfo");
    let _turn = app.gc.looking.lock().await;
    let (policy_of_run, params) = last_policy(app).await?;
    let mut conn = app.db.acquire().await?;
    let Some(row) = db::objects::list_states(&mut conn, std::slice::from_ref(&key)).await?.pop() else {
        return Ok(None);
    };
    drop(conn);
    let standing = match (row.deleting, row.live) {
        (true, _) => Standing::Deleting,
        (false, true) => Standing::Live,
        (false, false) => Standing::Expected,
    };
    let snapshot = snapshot::read(app, 1, &params, &CancellationToken::new()).await?;
    let Some(target) = snapshot.graph.index_of(row.id) else { return Ok(None) };
    let seen = blocking(move || look(&snapshot, &params, target)).await?;

    let mut ids: Vec<i64> = seen.roots.iter().flat_map(|root| &root.way).copied().collect();
    ids.extend(seen.roots.iter().map(|root| root.id).chain([row.id]));
    let names = names(app, &ids).await?;
    let name = |id: &i64| names.get(id).map(|(key, path)| path.clone().unwrap_or_else(|| key.clone()));
    let roots = seen.roots.iter().map(|root| {
        let (key, store_path) = names.get(&root.id).cloned().unwrap_or_default();
        let through = root.way.iter().filter_map(name).collect();
        WhyRoot { key, store_path, through, ..root.said.clone() }
    });
    Ok(Some(Why {
        store_path: names.get(&row.id).and_then(|(_, path)| path.clone()),
        key,
        standing,
        condemned_at: seen.condemned_at,
        policy_of_run,
        bytes: seen.bytes,
        roots_count: seen.roots_count,
        roots: roots.collect(),
        uploads: seen.uploads,
        goes_at: seen.goes_at,
    }))
}

/// The closures that take the most by themselves.
pub async fn usage(app: &App, limit: usize) -> Result<Usage, GcError> {
    let _turn = app.gc.looking.lock().await;
    let snapshot = snapshot::read(app, 1, &GcParams::default(), &CancellationToken::new()).await?;
    let (mut usage, largest) = blocking(move || measure(&snapshot, limit)).await?;
    let ids: Vec<i64> = largest.iter().map(|(id, _)| *id).collect();
    let names = names(app, &ids).await?;
    usage.largest = largest
        .into_iter()
        .map(|(id, root)| {
            let (key, store_path) = names.get(&id).cloned().unwrap_or_default();
            UsageRoot { key, store_path, ..root }
        })
        .collect();
    Ok(usage)
}

type Names = HashMap<i64, (String, Option<String>)>;

async fn names(app: &App, ids: &[i64]) -> Result<Names, GcError> {
    let mut conn = app.db.acquire().await?;
    let rows = db::roots::describe(&mut conn, ids).await?;
    Ok(rows.into_iter().map(|(id, key, store_path)| (id, (key, store_path))).collect())
}

/// What the last collection was asked for that was meant. Without one nothing lets a closure go.
async fn last_policy(app: &App) -> Result<(Option<i64>, GcParams), GcError> {
    let mut conn = app.db.acquire().await?;
    for row in db::gc_runs::list(&mut conn, RUNS).await? {
        let params: GcParams = serde_json::from_value(row.params)?;
        if !params.dry_run && params.delete.is_none() {
            return Ok((Some(row.id), params));
        }
    }
    Ok((
        None,
        GcParams { failed_uploads_older_than: GcParams::default_failed_uploads(), ..GcParams::default() },
    ))
}

/// A root before names are looked up.
struct Seen {
    id: i64,
    way: Vec<i64>,
    said: WhyRoot,
}

/// What a snapshot says of a path.
struct Path {
    roots: Vec<Seen>,
    roots_count: i64,
    uploads: i64,
    bytes: i64,
    condemned_at: Option<OffsetDateTime>,
    goes_at: Option<OffsetDateTime>,
}

fn look(snapshot: &Snapshot, params: &GcParams, target: u32) -> Path {
    let graph = &snapshot.graph;
    let Decision { kept_roots, dropped, .. } = decide(snapshot, params);
    let back = Back::to(graph, target);
    let root = |index: u32, last_used| {
        let id = graph.id(index);
        let pins = snapshot.pins.iter().filter(|pin| pin.object == id).map(|pin| pin.name.clone()).collect();
        let said = WhyRoot {
            key: String::new(),
            store_path: None,
            kept_by: None,
            dropped_by: None,
            pins,
            last_used,
            until: None,
            through: Vec::new(),
        };
        let way = back.way(index).into_iter().map(|index| graph.id(index)).collect();
        Seen { id, way, said }
    };
    let mut roots = Vec::new();
    let mut until: Option<OffsetDateTime> = None;
    let mut endless = false;
    for kept in kept_roots.iter().filter(|kept| back.contains(kept.index)) {
        let mut seen = root(kept.index, kept.last_used);
        let updated = kept.closure.map(|closure| closure.updated_at);
        seen.said.kept_by = Some(kept.rule);
        seen.said.until = kept_until(snapshot, params, kept.rule, seen.id, updated);
        endless |= seen.said.until.is_none();
        until = until.max(seen.said.until);
        roots.push(seen);
    }
    let kept = !roots.is_empty();
    for gone in dropped.iter().filter(|gone| back.contains(gone.index)) {
        let mut seen = root(gone.index, gone.last_used);
        seen.said.dropped_by = Some(gone.rule);
        roots.push(seen);
    }
    let uploads = snapshot.uploads.iter().filter(|(_, object)| *object == graph.id(target));
    let uploads = signed(uploads.count());
    let condemned = graph.condemned.iter().find(|(index, _)| *index == target);
    let condemned_at = condemned.map(|(_, since)| *since);
    let from = if kept { until } else { Some(condemned_at.unwrap_or(snapshot.taken_at)) };
    let from = from.filter(|_| !endless && uploads == 0);
    let roots_count = signed(roots.len());
    roots.sort_by_key(|seen| (seen.said.kept_by.is_none(), seen.said.kept_by, seen.way.len()));
    roots.truncate(LISTED);
    Path {
        roots,
        roots_count,
        uploads,
        bytes: graph.extend(&mut BitSet::default(), target),
        condemned_at,
        goes_at: from.and_then(|from| from.checked_add(grace(params).try_into().ok()?)),
    }
}

/// Until when a rule keeps a root that nobody pushes, reads or pins any more.
fn kept_until(
    snapshot: &Snapshot,
    params: &GcParams,
    rule: KeepRule,
    object: i64,
    updated: Option<OffsetDateTime>,
) -> Option<OffsetDateTime> {
    let add = |at: OffsetDateTime, age: std::time::Duration| at.checked_add(age.try_into().ok()?);
    let read = snapshot.reads.binary_search_by_key(&object, |(id, _)| *id).ok();
    let read = read.and_then(|place| {
        let after = snapshot.reads[place].1.next_day()?.with_time(Time::MIDNIGHT).assume_utc();
        add(after, params.keep_if_read_within?.0)
    });
    match rule {
        KeepRule::OlderThan => {
            add(updated?, params.older_than?.0).map(|until| read.map_or(until, |it| it.max(until)))
        }
        KeepRule::KeepIfReadWithin => read,
        KeepRule::Pin | KeepRule::PinRevision | KeepRule::Upload | KeepRule::NoAgeLimit => None,
    }
}

fn measure(snapshot: &Snapshot, limit: usize) -> (Usage, Vec<(i64, UsageRoot)>) {
    let graph = &snapshot.graph;
    let closures = snapshot.closures.iter();
    let (rows, roots): (Vec<_>, Vec<u32>) =
        closures.filter_map(|closure| Some((*closure, graph.index_of(closure.object)?))).unzip();
    let reached = graph.reachable(roots.iter().copied());
    let mut usage = Usage {
        live: Amount::default(),
        reached: Amount::default(),
        unreached: Amount::default(),
        closures: signed(roots.len()),
        largest: Vec::new(),
    };
    for index in
        graph.indexes().filter(|index| graph.live.contains(*index) && !graph.claimed.contains(*index))
    {
        let part = if reached.contains(index) { &mut usage.reached } else { &mut usage.unreached };
        for amount in [part, &mut usage.live] {
            amount.objects += 1;
            amount.bytes += graph.size(index);
        }
    }
    let unique = graph.unique_bytes(&roots, |_| true);
    let mut places: Vec<usize> = (0..roots.len()).collect();
    places.sort_unstable_by_key(|place| (std::cmp::Reverse(unique[*place]), *place));
    places.truncate(limit);
    let largest = places.into_iter().map(|place| {
        let (closure, index) = (rows[place], roots[place]);
        let pins = snapshot.pins.iter().filter(|pin| pin.object == closure.object);
        let root = UsageRoot {
            key: String::new(),
            store_path: None,
            pins: pins.map(|pin| pin.name.clone()).collect(),
            updated_at: closure.updated_at,
            bytes: graph.extend(&mut BitSet::default(), index),
            unique_bytes: unique[place],
        };
        (closure.object, root)
    });
    let largest = largest.collect();
    (usage, largest)
}
