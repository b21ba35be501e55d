//! Pure: which key does what at which time. The clock of a key stands in an annotation of its Secret, so that
//! nothing is lost with the status.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use niks3_protocol::duration::GoDuration;
use serde::{Deserialize, Serialize};

use crate::crd::binary_cache::{KeyStage, Promotion, Resign, Rotation};
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
    /// Since when clients are no longer told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_at: Option<String>,
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
            dropped_at: self.dropped_at.or(other.dropped_at),
        }
    }

    /// Whether it is published and did nothing else so far.
    pub fn waits(&self) -> bool {
        self.published_at.is_some() && self.signing_since.is_none() && self.retired_at.is_none()
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
    /// For how long a key signs until another one follows it by itself: that one is published then.
    alone: Option<SignedDuration>,
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
        let publish = parse("publishBeforeSign", &rotation.publish_before_sign.0)?;
        let by_hand = rotation.promotion == Promotion::Manual;
        let every = rotation.interval.as_ref().filter(|_| !by_hand && rotation.resign == Resign::Background);
        let every = every.map(|every| parse("interval", &every.0)).transpose()?;
        let alone = every.map(|every| every.saturating_sub(publish));
        Ok(Self { publish, overlap: parse("overlap", &rotation.overlap.0)?, by_hand, alone })
    }

    /// When a key that is published signs by itself.
    pub(super) fn signs_at(self, clock: &Clock) -> Option<Timestamp> {
        if self.by_hand { None } else { after(clock.published_at.as_ref(), self.publish) }
    }

    /// Whether keys follow one another by themselves.
    pub(super) fn goes_on(self) -> bool {
        self.alone.is_some()
    }

    /// When another key follows one by itself.
    pub(super) fn next_at(self, clock: &Clock) -> Option<Timestamp> {
        after(clock.signing_since.as_ref(), self.alone?)
    }

    /// When clients are no longer told of a key that nobody listed: what they remember of narinfos that it signed alone
    /// is forgotten by then.
    pub(super) fn dropped_at(self, clock: &Clock) -> Option<Timestamp> {
        after(clock.retired_at.as_ref(), self.overlap)
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
mod tests;
