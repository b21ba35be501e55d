//! A model that cannot fail proves nothing: each rule switched off is caught, by the property named.

#![expect(clippy::print_stdout, reason = "`--nocapture` shows the histories")]

use niks3_model::{GOES, HAS_ROW, LIVE, NOT_MISSING, PROMISE, Plan, Puts, READER, Rule, Size, check};

/// Switches a rule off where these closures are pushed.
fn caught(rule: Rule, plans: [Plan; 2], by: &'static str) {
    caught_in(Size::FIRST.pushing(plans[0], plans[1]).without(rule), by);
}

fn caught_in(size: Size, by: &'static str) {
    let rule = size.off;
    let verdict = check(size, Some(by), 1);
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

/// Two clients bring different builds of one path, so what each would write in its narinfo differs.
#[test]
fn rules_of_writing_narinfos() {
    let builds = |rule, by| caught_in(Size::BUILDS.without(rule), by);
    builds(Rule::OneWriter, PROMISE);
    builds(Rule::LiveIsNotWritten, PROMISE);
    builds(Rule::WriteSettles, PROMISE);
    builds(Rule::WriterSendsInTime, PROMISE);
    builds(Rule::LostWriteStays, PROMISE);
    builds(Rule::CommitSeesWriter, PROMISE);
    builds(Rule::ClaimWaitsForWrites, HAS_ROW);
}

#[test]
fn rules_of_signing_again() {
    let resigns = |rule, by| caught_in(Size::RESIGNS.without(rule), by);
    resigns(Rule::ResignClaims, HAS_ROW);
    resigns(Rule::ResignSeesLive, HAS_ROW);
    resigns(Rule::ResignWaitsForWrites, HAS_ROW);
    resigns(Rule::ResignChecksRead, PROMISE);
    resigns(Rule::ResignSendsInTime, HAS_ROW);
    resigns(Rule::ResignLostStays, HAS_ROW);
}

/// A PUT may act after its upload was committed, and its closure has gone meanwhile.
#[test]
fn a_put_after_the_commit_leaves_garbage_at_worst() {
    let size = Size { puts: Puts::AfterCommit, symmetric: false, ..Size::FIRST };
    let verdict = check(size, Some(HAS_ROW), 1);
    println!("a late PUT: {:?}", verdict.broken);
    assert!(verdict.broken.iter().all(|(name, _)| [HAS_ROW, GOES].contains(name)), "{verdict}");
}

/// docs/gc.md has a row for each rule, with its switches here and its tests on the real thing.
#[test]
fn the_page_names_every_switch_and_tests_that_there_are() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).unwrap();
    let page = read("docs/gc.md");
    let rules = read("e2e/model/src/rule.rs");
    let switches: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
    assert_eq!(switches.len(), 37);
    for switch in switches {
        assert!(page.contains(&format!("`{switch}`")), "docs/gc.md does not name {switch}");
    }
    let tests = ["gc", "gc_races", "gc_trouble", "delete", "resign", "resign/runs"]
        .map(|it| read(&format!("server/tests/it/{it}.rs")))
        .concat();
    let rows = page.lines().filter(|line| line.starts_with("| ")).flat_map(|line| line.split('`'));
    let named: Vec<&str> = rows.filter(|word| word.matches('_').count() > 3).collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        assert!(tests.contains(&format!("fn {name}()")), "docs/gc.md names the test {name}, which is none");
    }
}
