//! Pure: which key does what at which time. The clock of a key stands in an annotation of its Secret, so that
//! nothing is lost with the status.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use niks3_protocol::duration::GoDuration;
use serde::{Deserialize, Serialize};

use crate::crd::binary_cache::{KeyStage, Promotion, Rotation};
use crate::crd::conditions::Reason;
use crate::status::timestamp;

use super::Invalid;

/// When a key went from one stage to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Clock {
    /// Since when clients are told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<String>,
    /// Since when it signs, or signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_since: Option<String>,
    /// Since when all pods sign with it; noted where it is to take over from an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force_since: Option<String>,
    /// Since when it signs no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_at: Option<String>,
}

impl Clock {
    /// What another one knows, where this one knows nothing.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            published_at: self.published_at.or(other.published_at),
            signing_since: self.signing_since.or(other.signing_since),
            in_force_since: self.in_force_since.or(other.in_force_since),
            retired_at: self.retired_at.or(other.retired_at),
        }
    }
}

/// The clocks of the keys in one Secret, by the keys' names.
pub type Clocks = BTreeMap<String, Clock>;

/// A key as it is judged.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) wanted: KeyStage,
    /// Whether there is a key to sign with.
    pub(super) usable: bool,
    pub(super) clock: Clock,
    /// All that is stored has its signature.
    pub(super) in_all: bool,
    /// It signs on only until a later one's signature is in all that is stored.
    pub(super) waits: bool,
}

/// For how long a key waits, and for how long two sign.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    publish: SignedDuration,
    overlap: SignedDuration,
    by_hand: bool,
}

impl Pace {
    pub(super) fn of(rotation: &Rotation) -> Result<Self, Invalid> {
        let parse = |field: &str, text: &str| {
            let parsed: Result<GoDuration, _> = text.parse();
            parsed.ok().and_then(|duration| SignedDuration::try_from(duration.0).ok()).ok_or_else(|| {
                Invalid {
                    reason: Reason::InvalidSpec,
                    message: format!("signing.rotation.{field}: {text} is no duration such as 168h"),
                }
            })
        };
        Ok(Self {
            publish: parse("publishBeforeSign", &rotation.publish_before_sign.0)?,
            overlap: parse("overlap", &rotation.overlap.0)?,
            by_hand: rotation.promotion == Promotion::Manual,
        })
    }

    /// When a key that is published signs by itself.
    pub(super) fn signs_at(self, clock: &Clock) -> Option<Timestamp> {
        if self.by_hand { None } else { after(clock.published_at.as_ref(), self.publish) }
    }

    /// When the keys before one that signs retire: from when all pods sign with it, both do. What retired then stays
    /// so where that is not known any more.
    fn retires_at(self, clock: &Clock, retired: bool) -> Option<Timestamp> {
        let since = clock.in_force_since.as_ref();
        after(since.or(clock.signing_since.as_ref().filter(|_| retired)), self.overlap)
    }
}

fn after(time: Option<&String>, wait: SignedDuration) -> Option<Timestamp> {
    time?.parse::<Timestamp>().ok()?.checked_add(wait).ok()
}

/// What each key does now, in the order of the spec; the clocks are set.
pub(super) fn stages(keys: &mut [Candidate], pace: Pace, now: Timestamp) -> Vec<KeyStage> {
    for key in keys.iter_mut() {
        if key.wanted != KeyStage::Revoke && key.clock.published_at.is_none() {
            key.clock.published_at = Some(timestamp(now));
        }
    }
    let may_sign = |key: &Candidate| matches!(key.wanted, KeyStage::Auto | KeyStage::Sign);
    let mut signing: Vec<bool> = Vec::with_capacity(keys.len());
    for (index, key) in keys.iter().enumerate() {
        // What signed goes on doing so while its Secret is away: the pods have it.
        let able = key.usable || key.clock.signing_since.is_some();
        signing.push(match key.wanted {
            KeyStage::Sign => able,
            KeyStage::Auto => {
                let first = !keys[..index].iter().any(may_sign);
                let due = pace.signs_at(&key.clock).is_some_and(|at| at <= now);
                able && (first || due || key.clock.signing_since.is_some())
            }
            _ => false,
        });
    }
    // Pods wait for a key rather than sign with none.
    if !signing.contains(&true)
        && let Some(first) = keys.iter().position(may_sign)
    {
        signing[first] = true;
    }
    let judged: &[Candidate] = keys;
    let due = |index: usize| {
        let later = (index + 1..keys.len()).filter(|later| signing[*later] && judged[*later].usable);
        let retired = judged[index].clock.retired_at.is_some();
        later.filter(move |later| pace.retires_at(&judged[*later].clock, retired).is_some_and(|at| at <= now))
    };
    // What retired once stays so: what its successor has not signed is none of its own any more.
    let retired = |index: usize| {
        due(index).any(|later| judged[later].in_all || judged[index].clock.retired_at.is_some())
    };
    let waits: Vec<bool> = (0..keys.len())
        .map(|index| keys[index].wanted == KeyStage::Auto && due(index).next().is_some() && !retired(index))
        .collect();
    let stages: Vec<KeyStage> = keys
        .iter()
        .enumerate()
        .map(|(index, key)| match key.wanted {
            KeyStage::Auto if signing[index] && retired(index) => KeyStage::Retire,
            KeyStage::Auto | KeyStage::Sign if signing[index] => KeyStage::Sign,
            KeyStage::Auto | KeyStage::Sign => KeyStage::Publish,
            wanted => wanted,
        })
        .collect();
    for ((key, stage), waits) in keys.iter_mut().zip(&stages).zip(waits) {
        key.waits = waits && *stage == KeyStage::Sign;
        let clock = &mut key.clock;
        match stage {
            KeyStage::Sign => {
                clock.retired_at = None;
                if key.usable {
                    clock.signing_since.get_or_insert_with(|| timestamp(now));
                }
            }
            KeyStage::Retire | KeyStage::Revoke => {
                clock.retired_at.get_or_insert_with(|| timestamp(now));
                clock.in_force_since = None;
            }
            // Back at the beginning: it would sign at once else.
            KeyStage::Publish | KeyStage::Auto => {
                (clock.signing_since, clock.in_force_since) = (None, None);
            }
        }
    }
    stages
}

#[cfg(test)]
mod tests {
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
                for clock in
                    keys.iter_mut().map(|key| &mut key.clock).filter(|clock| clock.retired_at.is_none())
                {
                    clock.in_force_since =
                        clock.in_force_since.take().or_else(|| clock.signing_since.clone());
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
}
