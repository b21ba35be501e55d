//! The plan of a run: counts, bytes, reasons, and the largest roots.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use niks3_protocol::api::gc::plan::{Amount, GcPlan, PlanPin, PlanRoot, RuleCount};
use niks3_protocol::api::gc::{GcParams, GcStats};
use sqlx::PgPool;

use super::bits::BitSet;
use super::decide::{Decision, Root};
use super::graph::Graph;
use super::snapshot::Snapshot;
use super::{GcError, signed};
use crate::db;

/// Entries of the plan's lists.
const LISTED: usize = 20;
/// Pins the plan names.
const LISTED_PINS: usize = 100;

/// What is known before names are looked up.
pub(super) struct Draft {
    plan: GcPlan,
    kept: Vec<Largest>,
    dropped: Vec<Largest>,
}

/// A large root.
struct Largest {
    place: usize,
    id: i64,
    bytes: i64,
    unique_bytes: i64,
}

/// Counts. Pure, and takes about as long as a mark.
pub(super) fn draft(snapshot: &Snapshot, decision: &Decision, grace: Duration) -> Draft {
    let graph = &snapshot.graph;
    let mut plan = GcPlan {
        uploads_expired: snapshot.uploads_expired,
        kept_by: count(&decision.kept_roots),
        dropped_by: count(&decision.dropped),
        pins_dropped: signed(decision.dropped_pins.len()),
        notes: decision.notes.clone(),
        ..GcPlan::default()
    };
    let add = |amount: &mut Amount, index| {
        amount.objects += 1;
        amount.bytes += graph.size(index);
    };
    let mut condemned = graph.condemned.iter().peekable();
    for index in graph.indexes() {
        let since = condemned.next_if(|(one, _)| *one == index).map(|(_, since)| *since);
        if graph.claimed.contains(index) {
            continue;
        }
        let live = graph.live.contains(index);
        if live {
            add(&mut plan.live, index);
        }
        if decision.kept.contains(index) {
            if live {
                add(&mut plan.keep, index);
            }
            continue;
        }
        match since.filter(|_| !decision.protected.contains(index)) {
            Some(since) if snapshot.taken_at - since >= grace => add(&mut plan.delete, index),
            Some(_) => add(&mut plan.waiting, index),
            None if live => add(&mut plan.condemn, index),
            None => {}
        }
    }
    if grace.is_zero() {
        plan.delete.objects += plan.condemn.objects;
        plan.delete.bytes += plan.condemn.bytes;
    }
    let kept = largest(graph, &decision.kept_roots, |_| true);
    let dropped = largest(graph, &decision.dropped, |index| !decision.kept.contains(index));
    Draft { plan, kept, dropped }
}

/// The same of a deletion.
pub(super) fn draft_deletion(snapshot: &Snapshot, decision: &Decision, goes: impl Fn(u32) -> bool) -> Draft {
    let graph = &snapshot.graph;
    let mut plan = GcPlan {
        dropped_by: count(&decision.dropped),
        pins_dropped: signed(decision.dropped_pins.len()),
        ..GcPlan::default()
    };
    for index in graph.indexes().filter(|index| !graph.claimed.contains(*index)) {
        let live = graph.live.contains(index);
        let part = if goes(index) { &mut plan.delete } else { &mut plan.keep };
        for amount in [part, &mut plan.live] {
            amount.objects += i64::from(live);
            amount.bytes += if live { graph.size(index) } else { 0 };
        }
    }
    plan.condemn = plan.delete;
    let dropped = largest(graph, &decision.dropped, goes);
    Draft { plan, kept: Vec::new(), dropped }
}

fn count<R: Copy + Ord>(roots: &[Root<R>]) -> Vec<RuleCount<R>> {
    let mut counts = BTreeMap::new();
    for root in roots {
        *counts.entry(root.rule).or_insert(0) += 1;
    }
    counts.into_iter().map(|(rule, roots)| RuleCount { rule, roots }).collect()
}

fn largest<R>(graph: &Graph, roots: &[Root<R>], counts: impl Fn(u32) -> bool) -> Vec<Largest> {
    let indexes: Vec<u32> = roots.iter().map(|root| root.index).collect();
    let unique = graph.unique_bytes(&indexes, counts);
    let mut places: Vec<usize> = (0..roots.len()).collect();
    places.sort_unstable_by_key(|place| (std::cmp::Reverse(unique[*place]), *place));
    places.truncate(LISTED);
    let measured = places.into_iter().map(|place| {
        let bytes = graph.extend(&mut BitSet::default(), indexes[place]);
        Largest { place, id: graph.id(indexes[place]), bytes, unique_bytes: unique[place] }
    });
    measured.collect()
}

/// The plan, with names.
pub(super) async fn finish(draft: Draft, decision: &Decision, pool: &PgPool) -> Result<GcPlan, GcError> {
    let Draft { mut plan, kept, dropped } = draft;
    let ids: Vec<i64> = kept.iter().chain(&dropped).map(|root| root.id).collect();
    let mut conn = pool.acquire().await?;
    let names = db::roots::describe(&mut conn, &ids).await?;
    let names: HashMap<i64, (String, Option<String>)> =
        names.into_iter().map(|(id, key, store_path)| (id, (key, store_path))).collect();
    plan.largest_kept = describe(kept, &decision.kept_roots, &names);
    plan.largest_dropped = describe(dropped, &decision.dropped, &names);
    let pins = decision.dropped_pins.iter().take(LISTED_PINS).map(|(pin, prefix)| PlanPin {
        name: pin.name.clone(),
        store_path: pin.store_path.clone(),
        prefix: prefix.clone(),
        updated_at: pin.updated_at,
    });
    plan.dropped_pins = pins.collect();
    Ok(plan)
}

fn describe<R: Copy>(
    largest: Vec<Largest>,
    roots: &[Root<R>],
    names: &HashMap<i64, (String, Option<String>)>,
) -> Vec<PlanRoot<R>> {
    let described = largest.into_iter().map(|one| {
        let (key, store_path) = names.get(&one.id).cloned().unwrap_or_default();
        let Root { rule, last_used, .. } = roots[one.place];
        PlanRoot { key, store_path, rule, last_used, bytes: one.bytes, unique_bytes: one.unique_bytes }
    });
    described.collect()
}

/// Why the plan goes further than the policy lets a run go.
pub(super) fn exceeds(plan: &GcPlan, params: &GcParams) -> Option<String> {
    let (go, all) = (plan.condemn.objects, plan.live.objects);
    let percent = if all == 0 { 0 } else { go.saturating_mul(100).div_euclid(all) };
    let exact = i128::from(go) * 100;
    let allowed = |percent: u32| i128::from(percent) * i128::from(all);
    let limit = match (params.max_delete_percent, params.max_delete_objects) {
        (Some(limit), _) if exact > allowed(limit) => format!("max_delete_percent {limit}"),
        (_, Some(limit)) if u64::try_from(go).is_ok_and(|go| go > limit) => {
            format!("max_delete_objects {limit}")
        }
        _ => return None,
    };
    Some(format!(
        "{go} of {all} live objects ({percent} %, {} bytes) would go, more than {limit} allows",
        plan.condemn.bytes
    ))
}

/// What a dry run says it would have done.
pub(super) fn stats(plan: &GcPlan) -> GcStats {
    GcStats {
        failed_uploads_deleted: plan.uploads_expired,
        old_closures_deleted: plan.dropped_by.iter().map(|count| count.roots).sum(),
        objects_marked_for_deletion: plan.condemn.objects,
        objects_deleted_after_grace_period: plan.delete.objects,
        bytes_freed: plan.delete.bytes,
        ..GcStats::default()
    }
}
