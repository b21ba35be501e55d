//! Pin rules: which names stay, and which of their targets. Pure.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use niks3_protocol::api::gc::plan::KeepRule;
use niks3_protocol::api::gc::policy::PinRule;
use time::OffsetDateTime;

use super::snapshot::before;
use crate::db::roots::{PinRow, RevisionRow};

/// What the rules say.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Objects that stay, by the rule that keeps them.
    pub(super) kept: HashMap<i64, KeepRule>,
    /// Objects that a rule gave up, and no other keeps.
    pub(super) given_up: HashSet<i64>,
    /// Names that go, with the prefix of the rule that lets them go.
    pub(super) dropped: Vec<(PinRow, String)>,
    /// Prefixes that no name has.
    pub(super) unused: Vec<String>,
}

/// Judges all pins.
pub(super) fn judge(
    rules: &[PinRule],
    pins: &[PinRow],
    revisions: &[RevisionRow],
    now: OffsetDateTime,
) -> Verdict {
    let mut verdict = Verdict::default();
    let mut of_rule: Vec<Vec<&PinRow>> = vec![Vec::new(); rules.len()];
    let mut staying: HashMap<&str, Option<&PinRule>> = HashMap::new();
    for pin in pins {
        match rule_of(rules, &pin.name) {
            Some(index) => of_rule[index].push(pin),
            None => drop(staying.insert(&pin.name, None)),
        }
    }
    for (rule, mut pins) in rules.iter().zip(of_rule) {
        if pins.is_empty() {
            verdict.unused.push(rule.prefix.clone());
        }
        pins.sort_unstable_by_key(|pin| (Reverse(pin.updated_at), &pin.name));
        let last = rule.keep_last.map_or(0, |count| count as usize);
        let young = rule.max_age.map(|age| before(now, age.0));
        for (place, pin) in pins.into_iter().enumerate() {
            let young = young.is_some_and(|since| since.is_none_or(|since| pin.updated_at >= since));
            if !rule.drops_names() || place < last || young {
                staying.insert(&pin.name, Some(rule));
            } else {
                verdict.dropped.push((pin.clone(), rule.prefix.clone()));
            }
        }
    }
    for pin in pins.iter().filter(|pin| staying.contains_key(pin.name.as_str())) {
        verdict.kept.insert(pin.object, KeepRule::Pin);
    }
    judge_revisions(&mut verdict, &staying, revisions);
    verdict.dropped.sort_by_key(|(pin, _)| pin.updated_at);
    verdict
}

/// Of a name that stays the newest targets stay, of one that goes none.
fn judge_revisions(
    verdict: &mut Verdict,
    staying: &HashMap<&str, Option<&PinRule>>,
    revisions: &[RevisionRow],
) {
    for of_name in revisions.chunk_by(|one, other| one.name == other.name) {
        let rule = staying.get(of_name[0].name.as_str());
        let keep = match rule {
            None => 0,
            Some(rule) => rule.and_then(|rule| rule.keep_revisions).map_or(1, |count| count as usize),
        };
        for revision in of_name.iter().take(keep) {
            verdict.kept.entry(revision.object).or_insert(KeepRule::PinRevision);
        }
        // Where no rule speaks of a name, what it pointed to before is a closure like any other.
        let silent = rule
            .is_some_and(|rule| rule.is_none_or(|rule| !rule.drops_names() && rule.keep_revisions.is_none()));
        if !silent {
            verdict.given_up.extend(of_name.iter().skip(keep).map(|revision| revision.object));
        }
    }
    verdict.given_up.extend(verdict.dropped.iter().map(|(pin, _)| pin.object));
    verdict.given_up.retain(|object| !verdict.kept.contains_key(object));
}

/// The rule with the longest prefix.
fn rule_of(rules: &[PinRule], name: &str) -> Option<usize> {
    let fitting = rules.iter().enumerate().filter(|(_, rule)| name.starts_with(&rule.prefix));
    fitting.max_by_key(|(_, rule)| rule.prefix.len()).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-01-10 00:00 UTC);

    /// `name@days` old, pointing to these objects, the newest first.
    fn pins(texts: &[(&str, i64, &[i64])]) -> (Vec<PinRow>, Vec<RevisionRow>) {
        let pin = |(name, days, objects): &(&str, i64, &[i64])| PinRow {
            name: (*name).to_owned(),
            object: objects[0],
            store_path: String::new(),
            updated_at: NOW - Duration::days(*days),
        };
        let revisions = texts.iter().flat_map(|(name, _, objects)| {
            objects.iter().map(|object| RevisionRow { name: (*name).to_owned(), object: *object })
        });
        (texts.iter().map(pin).collect(), revisions.collect())
    }

    fn judged(
        rules: &[&str],
        texts: &[(&str, i64, &[i64])],
    ) -> (Vec<(i64, KeepRule)>, Vec<i64>, Vec<String>) {
        let rules: Vec<PinRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let (pins, revisions) = pins(texts);
        let verdict = judge(&rules, &pins, &revisions, NOW);
        let mut kept: Vec<(i64, KeepRule)> = verdict.kept.into_iter().collect();
        kept.sort_unstable();
        let mut given_up: Vec<i64> = verdict.given_up.into_iter().collect();
        given_up.sort_unstable();
        (kept, given_up, verdict.dropped.into_iter().map(|(pin, _)| pin.name).collect())
    }

    #[test]
    fn without_a_rule_a_pin_stays_and_its_past_is_nobodys() {
        let (kept, given_up, dropped) = judged(&[], &[("a", 9, &[1, 2, 3])]);
        assert_eq!((kept, given_up, dropped), (vec![(1, KeepRule::Pin)], vec![], vec![]));
        let (kept, given_up, _) = judged(&["prefix=a"], &[("a", 9, &[1, 2])]);
        assert_eq!((kept, given_up), (vec![(1, KeepRule::Pin)], vec![]));
    }

    #[test]
    fn any_limit_keeps_a_name_and_revisions_are_of_names_that_stay() {
        let texts: &[(&str, i64, &[i64])] = &[
            ("ci-1", 1, &[1, 11, 12]),
            ("ci-2", 2, &[2, 21]),
            ("ci-3", 3, &[3]),
            ("ci-4", 8, &[4, 41]),
            ("other", 99, &[5, 51]),
        ];
        let rule = "prefix=ci-,keep-last=1,max-age=48h,keep-revisions=2";
        let (kept, given_up, dropped) = judged(&[rule], texts);
        let expected = [
            (1, KeepRule::Pin),
            (2, KeepRule::Pin),
            (5, KeepRule::Pin),
            (11, KeepRule::PinRevision),
            (21, KeepRule::PinRevision),
        ];
        assert_eq!(kept, expected);
        assert_eq!(given_up, [3, 4, 12, 41]);
        assert_eq!(dropped, ["ci-4", "ci-3"], "the longest unwritten first");
    }

    #[test]
    fn the_longest_prefix_counts_and_another_pin_keeps_what_one_gives_up() {
        let texts: &[(&str, i64, &[i64])] =
            &[("ci-a", 5, &[1]), ("ci-release-a", 9, &[2]), ("keep", 9, &[1]), ("ci-b", 1, &[3])];
        let rules = ["prefix=ci-,keep-last=1", "prefix=ci-release-", "prefix=nobody-,keep-last=1"];
        let (kept, given_up, dropped) = judged(&rules, texts);
        assert_eq!(kept, [(1, KeepRule::Pin), (2, KeepRule::Pin), (3, KeepRule::Pin)]);
        assert_eq!((given_up, dropped), (vec![], vec!["ci-a".to_owned()]));
        let (pins, revisions) = pins(texts);
        let rules: Vec<PinRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        assert_eq!(judge(&rules, &pins, &revisions, NOW).unused, ["nobody-"]);
    }
}
