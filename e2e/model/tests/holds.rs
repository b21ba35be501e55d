//! The protocol holds: every state that can be reached is gone through. `--nocapture` shows how many those are;
//! `--ignored` goes through the larger sizes (`make model`).

#![expect(clippy::print_stdout, reason = "counts are what one runs this for")]

use niks3_model::{GOES, HAS_ROW, Plan, Puts, Size, Verdict, check};

const THREADS: usize = 2;

fn holds(what: &str, size: Size) -> Verdict {
    let verdict = check(size, None, THREADS);
    println!("{what}: {verdict}");
    assert!(verdict.broken.is_empty(), "{what}: {:#?}", verdict.broken);
    verdict
}

/// The first size: two pushes that overlap, two collections.
#[test]
fn while_closures_that_overlap_are_pushed() {
    let verdict = holds("two closures that overlap", Size::FIRST);
    assert!(verdict.never.is_empty(), "too little happens to prove anything: {:?}", verdict.never);
}

/// One push builds on what another brought.
#[test]
fn while_a_push_refers_to_what_it_does_not_bring() {
    let size = Size::FIRST.pushing(Plan::TOP, Plan::DEPENDENCY);
    holds("a reference outside the upload", size);
}

/// Two clients bring different narinfos of one path, and answers to the server's writes are lost.
#[test]
fn while_one_path_is_built_twice() {
    holds("two builds of one path", Size::BUILDS);
}

/// And what is stored is signed again meanwhile.
#[test]
fn while_narinfos_are_signed_again() {
    holds("two builds of one path that is signed again", Size::RESIGNS);
}

/// Rule 12: paths are deleted at once by `--force`, and what a push that was ended still sends arrives late.
fn holds_but_for_strays(what: &str, size: Size) {
    let verdict = check(Size { puts: Puts::AfterDeletion, ..size }, None, THREADS);
    println!("{what}: {verdict}");
    // What arrives when its row has gone is garbage that no narinfo leads to: fsck removes it.
    let strays = [HAS_ROW, GOES];
    assert!(verdict.broken.iter().all(|(name, _)| strays.contains(name)), "{what}: {:#?}", verdict.broken);
    assert!(verdict.broken.iter().any(|(name, _)| *name == HAS_ROW), "{what}: no PUT came late");
}

#[test]
fn while_paths_are_deleted_at_once() {
    holds_but_for_strays("a deletion with --force", Size { marks: [2, 0], symmetric: false, ..Size::FIRST });
}

#[test]
#[ignore = "larger"]
fn while_paths_are_deleted_at_once_and_collected() {
    holds_but_for_strays("two deletions with --force", Size::FIRST);
}

#[test]
#[ignore = "larger"]
fn while_the_same_closure_is_pushed_twice() {
    holds("one closure by two clients", Size::FIRST.pushing(Plan::WHOLE, Plan::WHOLE));
}

#[test]
#[ignore = "larger"]
fn while_marks_are_written_in_batches() {
    holds("a collection in batches", Size { batches: true, ..Size::FIRST });
}

#[test]
#[ignore = "larger"]
fn while_collectors_die() {
    holds("collectors that die once each", Size { crashes: [1, 1], ..Size::FIRST });
}

#[test]
#[ignore = "larger"]
fn while_closures_are_pushed_again() {
    holds("two pushes by one client", Size { pushes: [2, 1], ..Size::FIRST });
}
