//! Days of rotations.

use super::*;

const DAY: i64 = 86_400;

fn key(wanted: KeyStage) -> Candidate {
    Candidate { wanted, usable: true, clock: Clock::default(), in_all: true, waits: false }
}

/// The stages of keys day by day, each a letter.
fn days(keys: &mut [Candidate], promotion: Promotion, days: &[i64]) -> Vec<String> {
    let pace = Pace::of(&Rotation { promotion, ..Rotation::default() }).unwrap();
    let letter = |stage: &KeyStage| format!("{stage:?}").chars().next().unwrap();
    days.iter()
        .map(|day| {
            let now = Timestamp::from_second(1_800_000_000 + day * DAY).unwrap();
            let said = stages(keys, pace, now).iter().map(letter).collect();
            // All pods take them at once.
            for clock in keys.iter_mut().map(|key| &mut key.clock).filter(|clock| clock.retired_at.is_none())
            {
                clock.in_force_since = clock.in_force_since.take().or_else(|| clock.signing_since.clone());
            }
            said
        })
        .collect()
}

use KeyStage::{Auto, Publish, Retire, Revoke, Sign};
use Promotion::{Automatic, Manual};

#[test]
fn a_key_is_published_then_signs_beside_the_old_one_then_alone() {
    let mut keys = [key(Auto), key(Auto)];
    let mut first = [key(Auto)];
    assert_eq!(days(&mut first, Automatic, &[0]), ["S"]);
    keys[0].clock = first[0].clock.clone();
    let said = days(&mut keys, Automatic, &[0, 6, 7, 36, 37, 400]);
    assert_eq!(said, ["SP", "SP", "SS", "SS", "RS", "RS"]);
    assert!(keys[0].clock.retired_at.is_some());
}

#[test]
fn a_key_retires_once_its_successor_has_signed_what_is_stored() {
    let mut keys = [key(Auto), Candidate { in_all: false, ..key(Auto) }];
    assert_eq!(days(&mut keys, Automatic, &[0, 7, 36]), ["SP", "SS", "SS"]);
    assert!(!keys[0].waits, "its time has not come");
    assert_eq!(days(&mut keys, Automatic, &[37, 100]), ["SS", "SS"]);
    assert!(keys[0].waits && !keys[1].waits);
    keys[1].in_all = true;
    assert_eq!(days(&mut keys, Automatic, &[101]), ["RS"]);
    assert!(!keys[0].waits);
    keys[1].in_all = false;
    assert_eq!(days(&mut keys, Automatic, &[102]), ["RS"], "nothing is known of a new run: it stays so");
    let mut told = [Candidate { wanted: Retire, ..key(Auto) }, Candidate { in_all: false, ..key(Auto) }];
    assert_eq!(days(&mut told, Automatic, &[0, 100]), ["RS", "RS"], "by hand it waits for nobody");
}

#[test]
fn the_overlap_counts_from_when_all_pods_sign_with_both() {
    let mut keys = [key(Auto), key(Auto)];
    assert_eq!(days(&mut keys, Automatic, &[0, 7]), ["SP", "SS"]);
    let pace = Pace::of(&Rotation::default()).unwrap();
    let at = |day: i64| Timestamp::from_second(1_800_000_000 + day * DAY).unwrap();
    keys[1].clock.in_force_since = None;
    assert_eq!(stages(&mut keys, pace, at(400)), [Sign, Sign], "a pod may sign with the old one alone");
    keys[1].clock.in_force_since = Some(timestamp(at(400)));
    assert_eq!(stages(&mut keys, pace, at(429)), [Sign, Sign]);
    assert_eq!(stages(&mut keys, pace, at(430)), [Retire, Sign]);
    keys[1].clock.in_force_since = None;
    assert_eq!(stages(&mut keys, pace, at(431)), [Retire, Sign], "it does not come back");
}

#[test]
fn by_hand_a_key_signs_when_it_is_told_to() {
    let mut keys = [key(Auto), key(Auto)];
    assert_eq!(days(&mut keys, Manual, &[0, 400]), ["SP", "SP"]);
    keys[1].wanted = Sign;
    assert_eq!(days(&mut keys, Manual, &[401, 430, 431]), ["SS", "SS", "RS"]);
}

#[test]
fn there_is_always_one_that_signs() {
    assert_eq!(days(&mut [key(Retire), key(Auto)], Automatic, &[0]), ["RS"]);
    assert_eq!(days(&mut [key(Revoke), key(Publish), key(Auto)], Automatic, &[0]), ["RPS"]);
    let mut keys = [key(Auto), key(Auto)];
    assert_eq!(days(&mut keys, Automatic, &[0, 7, 37]), ["SP", "SS", "RS"]);
    keys[1].wanted = Revoke;
    assert_eq!(days(&mut keys, Automatic, &[38]), ["SR"], "the one before signs again");
}

#[test]
fn a_key_that_is_none_follows_nobody() {
    let mut keys = [key(Auto), Candidate { usable: false, ..key(Auto) }];
    assert_eq!(days(&mut keys, Automatic, &[0, 7, 400]), ["SP", "SP", "SP"]);
    assert_eq!(days(&mut [Candidate { usable: false, ..key(Auto) }], Automatic, &[0]), ["S"]);
}

#[test]
fn what_signed_goes_on_while_its_secret_is_away() {
    let mut keys = [key(Auto), key(Auto)];
    assert_eq!(days(&mut keys, Automatic, &[0, 7]), ["SP", "SS"]);
    keys[1].usable = false;
    assert_eq!(days(&mut keys, Automatic, &[400]), ["SS"], "a key that is away retires nobody");
}
