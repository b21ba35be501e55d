//! A model that cannot fail proves nothing: each rule switched off is caught, by the property named.

#![expect(clippy::print_stdout, reason = "`--nocapture` shows the histories")]

use niks3_model::{A, GOES, HAS_ROW, Keys, LIVE, NOT_MISSING, PROMISE, Plan, READER, Rule, Size, check};

/// Switches a rule off where these closures are pushed.
fn caught(rule: Rule, plans: [Plan; 2], by: &'static str) {
    let verdict = check(Size::FIRST.pushing(plans[0], plans[1]).without(rule), Some(by), 1);
    let history = verdict.broken.iter().find(|(name, _)| *name == by).map(|(_, steps)| steps);
    println!("without {rule:?}: not \"{by}\" after {:?} ({verdict})", history.map(Vec::len));
    println!("    {history:?}");
    assert!(history.is_some(), "nobody would notice if {rule:?} did not hold: {verdict}");
}

const OVERLAP: [Plan; 2] = [Plan::WHOLE, Plan::DEPENDENCY];
const SAME: [Plan; 2] = [Plan::WHOLE, Plan::WHOLE];
const OUTSIDE: [Plan; 2] = [Plan::TOP, Plan::DEPENDENCY];

#[test]
fn rules_of_begin() {
    caught(Rule::BeginInTwo, OVERLAP, NOT_MISSING);
    caught(Rule::BeginLifts, OVERLAP, PROMISE);
    caught(Rule::BeginWaits, OVERLAP, PROMISE);
    caught(Rule::ExpectedIsMissing, OVERLAP, NOT_MISSING);
}

#[test]
fn rules_of_commit() {
    caught(Rule::CommitLooks, OVERLAP, PROMISE);
    caught(Rule::CommitLocksUpload, OVERLAP, PROMISE);
    caught(Rule::CommitSeesDeleting, OUTSIDE, PROMISE);
    caught(Rule::CommitLifts, OUTSIDE, PROMISE);
    caught(Rule::CommitProtectsOutside, OUTSIDE, PROMISE);
    caught(Rule::UploadOutlivesAddresses, OVERLAP, HAS_ROW);
}

#[test]
fn rules_of_mark_and_claim() {
    caught(Rule::UploadsAreRoots, OVERLAP, NOT_MISSING);
    caught(Rule::CondemnedBeforeSnapshot, OVERLAP, PROMISE);
    caught(Rule::ClaimChecksSince, OVERLAP, PROMISE);
    caught(Rule::ClaimChecksCondemned, OVERLAP, PROMISE);
    caught(Rule::NarinfosFirst, OVERLAP, READER);
    caught(Rule::DependentsFirst, OVERLAP, READER);
    caught(Rule::DependentsFirst, SAME, LIVE);
    caught(Rule::DependentsFirst, SAME, PROMISE);
}

#[test]
fn rules_of_deleting() {
    caught(Rule::RowGoesLast, OVERLAP, PROMISE);
    caught(Rule::LostAnswerWaits, OVERLAP, PROMISE);
    caught(Rule::OutstandingStaysClaimed, OVERLAP, PROMISE);
    caught(Rule::ComesBackExpected, SAME, PROMISE);
    caught(Rule::TakeOverWaits, OVERLAP, PROMISE);
    caught(Rule::SweeperSendsInTime, OVERLAP, PROMISE);
    caught(Rule::TakeOverSendsAgain, OVERLAP, HAS_ROW);
    caught(Rule::SettlesOnlyItsOwn, OVERLAP, PROMISE);
}

/// Known and not yet answered by docs/gc.md ("What the model does not cover"): two clients that bring
/// different builds of one path write the same narinfo.
#[test]
fn two_builds_of_one_path_are_a_known_hole() {
    let builds = Size::FIRST.pushing(Plan::BUILD, Plan::REBUILD);
    let size = Size { narinfos: Keys::of(&[A]), symmetric: false, ..builds };
    let verdict = check(size, Some(PROMISE), 1);
    println!("two builds of one path: {:?}", verdict.broken);
    assert!(verdict.broken.iter().any(|(name, _)| *name == PROMISE), "{verdict}");
}

/// The same for a PUT that acts after its upload was committed, and its closure has gone meanwhile.
#[test]
fn a_put_after_the_commit_leaves_garbage_at_worst() {
    let size = Size { late_puts: true, symmetric: false, ..Size::FIRST };
    let verdict = check(size, Some(HAS_ROW), 1);
    println!("a late PUT: {:?}", verdict.broken);
    assert!(verdict.broken.iter().all(|(name, _)| [HAS_ROW, GOES].contains(name)), "{verdict}");
}
