//! Retention: which roots a policy keeps, and by which rule. Pure.
//!
//! A root stays if any rule keeps it. Then `max_size` drops those longest not used, never a pinned one.

use std::cmp::Reverse;

use niks3_protocol::api::gc::GcParams;
use niks3_protocol::api::gc::plan::{DropRule, KeepRule};
use niks3_protocol::duration::GoDuration;
use time::{Date, OffsetDateTime, Time};

use super::bits::BitSet;
use super::graph::Graph;
use super::rules::{self, Verdict};
use super::snapshot::{Snapshot, before};
use crate::db::roots::{ClosureRow, PinRow};

/// What `max_size` never drops is younger than this, where the policy does not say.
const MIN_AGE: GoDuration = GoDuration::hours(24);

/// A root, and what a rule says of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Root<R> {
    /// Its object.
    pub(super) index: u32,
    /// What keeps or drops it.
    pub(super) rule: R,
    /// When it was last pushed, refreshed or read.
    pub(super) last_used: OffsetDateTime,
    /// Its row, where it is a closure and no mere read of a part of one.
    pub(super) closure: Option<ClosureRow>,
}

/// What a policy makes of a snapshot.
pub(super) struct Decision {
    /// What kept roots reach.
    pub(super) kept: BitSet,
    /// That, and what committed closures reach that are to go: nothing of it may be claimed in this run.
    pub(super) protected: BitSet,
    /// Roots that stay.
    pub(super) kept_roots: Vec<Root<KeepRule>>,
    /// Closures that go.
    pub(super) dropped: Vec<Root<DropRule>>,
    /// Pins that go, with the prefix of the rule that lets them.
    pub(super) dropped_pins: Vec<(PinRow, String)>,
    /// What whoever wrote the policy may not have meant.
    pub(super) notes: Vec<String>,
}

/// Judges everything that may be a root.
pub(super) fn decide(snapshot: &Snapshot, params: &GcParams) -> Decision {
    let now = snapshot.taken_at;
    let verdict = rules::judge(&params.pin_rules, &snapshot.pins, &snapshot.revisions, now);
    let (mut kept_roots, mut dropped) = judge_closures(snapshot, params, &verdict);
    kept_roots.extend(reads_of_parts(snapshot));
    let mut notes: Vec<String> =
        verdict.unused.iter().map(|prefix| format!("no pin's name begins with {prefix:?}")).collect();

    let graph = &snapshot.graph;
    let mut kept = BitSet::new(graph.len());
    let mut bytes = 0;
    for index in snapshot.uploads.iter().filter_map(|(_, id)| graph.index_of(*id)) {
        bytes += graph.extend(&mut kept, index);
    }
    if let Some(max) = params.max_size {
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let (fits, evicted) = fit(graph, kept_roots, max, params, now, (&mut kept, bytes), &mut notes);
        kept_roots = fits;
        dropped.extend(evicted);
    } else {
        kept_roots.retain(|root| {
            // A read of a part that a kept closure reaches says nothing new.
            let new = root.closure.is_some() || !kept.contains(root.index);
            graph.extend(&mut kept, root.index);
            new
        });
    }
    let mut protected = kept.clone();
    for root in &dropped {
        graph.extend(&mut protected, root.index);
    }
    Decision { kept, protected, kept_roots, dropped, dropped_pins: verdict.dropped, notes }
}

/// Every rule but `max_size`.
fn judge_closures(
    snapshot: &Snapshot,
    params: &GcParams,
    verdict: &Verdict,
) -> (Vec<Root<KeepRule>>, Vec<Root<DropRule>>) {
    let (mut kept, mut dropped) = (Vec::new(), Vec::new());
    let oldest = params.older_than.map(|age| before(snapshot.taken_at, age.0));
    for closure in &snapshot.closures {
        let Some(index) = snapshot.graph.index_of(closure.object) else { continue };
        let read = snapshot.reads.binary_search_by_key(&closure.object, |(id, _)| *id).ok();
        let read = read.map(|place| end_of(snapshot.reads[place].1, snapshot.taken_at));
        let last_used = read.map_or(closure.updated_at, |read| read.max(closure.updated_at));
        let given_up = verdict.given_up.contains(&closure.object);
        let young = match oldest {
            Some(oldest) => oldest.is_none_or(|oldest| closure.updated_at >= oldest),
            None => false,
        };
        let closure = Some(*closure);
        let rule = match verdict.kept.get(&snapshot.graph.id(index)) {
            Some(rule) => Ok(*rule),
            None if young => Ok(KeepRule::OlderThan),
            None if read.is_some() => Ok(KeepRule::KeepIfReadWithin),
            None if given_up => Err(DropRule::PinRules),
            None if oldest.is_none() => Ok(KeepRule::NoAgeLimit),
            None => Err(DropRule::OlderThan),
        };
        match rule {
            Ok(rule) => kept.push(Root { index, rule, last_used, closure }),
            Err(rule) => dropped.push(Root { index, rule, last_used, closure }),
        }
    }
    (kept, dropped)
}

/// What was read lately and is no closure of its own: parts of others.
fn reads_of_parts(snapshot: &Snapshot) -> impl Iterator<Item = Root<KeepRule>> {
    snapshot.reads.iter().filter_map(|(id, day)| {
        let is_closure = snapshot.closures.binary_search_by_key(id, |closure| closure.object).is_ok();
        let index = snapshot.graph.index_of(*id).filter(|_| !is_closure)?;
        let last_used = end_of(*day, snapshot.taken_at);
        Some(Root { index, rule: KeepRule::KeepIfReadWithin, last_used, closure: None })
    })
}

/// Of a read only the day is known: it counts as its last moment.
fn end_of(day: Date, now: OffsetDateTime) -> OffsetDateTime {
    day.next_day().map_or(now, |next| next.with_time(Time::MIDNIGHT).assume_utc().min(now))
}

/// Keeps the roots last used until they no longer fit.
fn fit(
    graph: &Graph,
    roots: Vec<Root<KeepRule>>,
    max: i64,
    params: &GcParams,
    now: OffsetDateTime,
    (kept, mut bytes): (&mut BitSet, i64),
    notes: &mut Vec<String>,
) -> (Vec<Root<KeepRule>>, Vec<Root<DropRule>>) {
    let min_age = before(now, params.min_age.unwrap_or(MIN_AGE).0);
    let (mut staying, mut others): (Vec<_>, Vec<_>) = roots.into_iter().partition(|root| {
        let pinned = matches!(root.rule, KeepRule::Pin | KeepRule::PinRevision);
        pinned || min_age.is_none_or(|since| root.last_used > since)
    });
    staying.retain(|root| {
        let new = root.closure.is_some() || !kept.contains(root.index);
        bytes += graph.extend(kept, root.index);
        new
    });
    if bytes > max {
        notes.push(format!(
            "what is pinned, under way or younger than min_age takes {bytes} bytes, more than max_size {max}"
        ));
    }
    others.sort_unstable_by_key(|root| (Reverse(root.last_used), root.index));
    let (mut evicted, mut full, mut added) = (Vec::new(), bytes > max, Vec::new());
    for root in others {
        let new = !kept.contains(root.index);
        if new && !full {
            added.clear();
            bytes += graph.extend_noting(kept, root.index, &mut added);
            full = bytes > max;
            if full {
                for index in &added {
                    kept.remove(*index);
                }
            }
        }
        // What others hold anyway frees nothing.
        if kept.contains(root.index) {
            if new || root.closure.is_some() {
                staying.push(root);
            }
        } else if root.closure.is_some() {
            let Root { index, last_used, closure, .. } = root;
            evicted.push(Root { index, rule: DropRule::MaxSize, last_used, closure });
        }
    }
    (staying, evicted)
}
