//! Pure: how the signing keys stand.

use k8s_openapi::jiff::Timestamp;

use crate::cache::probe::PodKeys;
use crate::cache::validate::{Key, Signing, ValidCache};
use crate::crd::BinaryCacheStatus;
use crate::crd::binary_cache::{KeyStage, ResignProgress, ResignState, SigningKeyStatus};
use crate::crd::conditions::{ConditionType, Finding, Reason, truncated};
use crate::status::timestamp;

use super::{Outcome, resign};

const ABOUT: ConditionType = ConditionType::SigningKeysReady;
/// A kubelet refreshes files within a minute or two. Seconds.
const PATIENCE: i64 = 300;
const NOT_YET: &str = "does not sign with these keys yet";
/// A problem may name long paths.
const MAX_WORDS: usize = 300;

pub(super) fn signing(
    signing: &Signing,
    resign: Option<&ResignProgress>,
    pods: Option<&[PodKeys]>,
    now: Timestamp,
) -> Finding {
    let needed = |key: &&Key| !matches!(key.stage, KeyStage::Retire | KeyStage::Revoke);
    if let Some((reason, message)) =
        signing.keys.iter().filter(needed).find_map(|key| key.material.as_ref().err())
    {
        return Finding::no(ABOUT, *reason, message);
    }
    let names: Vec<&str> = signing.signing().map(|key| key.name.as_str()).collect();
    let verb = if names.len() == 1 { "signs" } else { "sign" };
    let mut said = format!("{} {verb}", names.join(", "));
    if let Some(sentence) = lagging(signing, pods, now) {
        said = format!("{said}; {sentence}");
    }
    if let Some(sentence) = resign::sentence(resign, names.len() > 1 && signing.resigns) {
        said = format!("{said}; {sentence}");
    }
    if let Some(old) = signing.waiting() {
        said = format!("{said}; {} retires once they are all signed again", old.name);
    }
    if let Some(next) = signing.keys.iter().find(|key| key.stage == KeyStage::Publish) {
        return match signing.signs_at(next) {
            Some(at) if next.wanted == KeyStage::Auto => {
                let message = format!("{said}; {} is published and signs from {at}", next.name);
                Finding::yes(ABOUT, Reason::RotationInProgress, message)
            }
            _ => {
                let message = format!("{said}; {} is published and signs when its stage is Sign", next.name);
                Finding::yes(ABOUT, Reason::AwaitingPromotion, message)
            }
        };
    }
    if let Some(at) = signing.next_key_at() {
        said = format!("{said}; another key follows by itself and is published from {}", timestamp(at));
    } else if let Some(held) = signing.held() {
        said = format!("{said}; none follows {} by itself while its stage is {:?}", held.name, held.wanted);
    }
    let moving = names.len() > 1 || others(signing, pods).next().is_some();
    let resigning = resign.is_some_and(|progress| progress.state != ResignState::Succeeded);
    let reason = match (moving, resigning) {
        (true, _) => Reason::RotationInProgress,
        (false, true) => Reason::Resigning,
        (false, false) => Reason::Stable,
    };
    Finding::yes(ABOUT, reason, said)
}

/// Whether there is something to learn of the pods soon.
pub(super) fn waits(signing: &Signing, pods: Option<&[PodKeys]>) -> bool {
    others(signing, pods).next().is_some() || (awaited(signing) && !all_took(signing, pods))
}

/// A later key that signs is to be in all pods before an earlier one retires.
fn awaited(signing: &Signing) -> bool {
    signing.successors().any(|key| key.clock.in_force_since.is_none())
}

/// Whether each pod has the keys in force that are wanted. Where there is none, those to come begin with them.
fn all_took(signing: &Signing, pods: Option<&[PodKeys]>) -> bool {
    let took = |pod: &PodKeys| pod.said.as_ref() == Some(&signing.set.public);
    signing.set.wanted.is_some() && pods.is_some_and(|pods| pods.iter().all(took))
}

/// Those that say they have others.
fn others<'a>(signing: &'a Signing, pods: Option<&'a [PodKeys]>) -> impl Iterator<Item = &'a PodKeys> {
    let differs = |pod: &&PodKeys| {
        pod.problem.is_some() || pod.said.as_ref().is_some_and(|said| *said != signing.set.public)
    };
    pods.into_iter().flatten().filter(move |pod| signing.set.wanted.is_some() && differs(pod))
}

/// Pods that do not have the keys, by name once that takes too long.
fn lagging(signing: &Signing, pods: Option<&[PodKeys]>, now: Timestamp) -> Option<String> {
    let all = pods?.len();
    let late = now.as_second() - signing.set.changed_at.as_second() >= PATIENCE;
    let silent = pods?.iter().find(|pod| late && awaited(signing) && pod.said.is_none());
    let count = others(signing, pods).count();
    let sentence = match (others(signing, pods).next(), silent) {
        (Some(PodKeys { pod, problem: Some(problem), .. }), _) => {
            return Some(format!("pod {pod}: {}", truncated(problem, MAX_WORDS)));
        }
        (Some(PodKeys { pod, .. }), _) if late => {
            format!("pod {pod} {NOT_YET}, 5 minutes after they changed")
        }
        (Some(_), _) => format!("{count} of {all} pods {}", NOT_YET.replacen("does", "do", 1)),
        (None, Some(silent)) => format!("pod {} does not say which keys it signs with", silent.pod),
        (None, None) => return None,
    };
    Some(sentence)
}

/// What the status says of the keys, once those that it is about are there.
pub(super) fn tell(
    status: &mut BinaryCacheStatus,
    valid: &ValidCache,
    outcome: &Outcome<'_>,
    now: Timestamp,
) {
    let signing = &valid.signing;
    let made = |key: &Key| key.generated.as_ref().is_none_or(|generated| generated.make.is_none());
    if matches!(outcome.applied, Some(Err(_))) && !signing.keys.iter().all(made) {
        return;
    }
    status.public_keys.clone_from(&valid.public_keys);
    status.signing_keys = statuses(signing, outcome.keys, now);
    status.next_key_rotation = signing.next_key_at().map(timestamp);
}

/// In the order in which they follow one another.
fn statuses(signing: &Signing, pods: Option<&[PodKeys]>, now: Timestamp) -> Vec<SigningKeyStatus> {
    let took = all_took(signing, pods).then(|| timestamp(now));
    let successors: Vec<&str> = signing.successors().map(|key| key.name.as_str()).collect();
    let of = |key: &Key| {
        let in_force = took.clone().filter(|_| successors.contains(&key.name.as_str()));
        let status = status(key)?;
        Some(SigningKeyStatus { in_force_since: status.in_force_since.or(in_force), ..status })
    };
    signing.keys.iter().filter(|key| !key.is_dropped()).filter_map(of).collect()
}

/// A key that was never there has nothing to tell.
fn status(key: &Key) -> Option<SigningKeyStatus> {
    Some(SigningKeyStatus {
        name: key.name.clone(),
        public_key: key.public_key.clone()?,
        secret_name: key.secret.secret.clone(),
        stage: key.stage,
        published_at: key.clock.published_at.clone(),
        signing_since: key.clock.signing_since.clone(),
        in_force_since: key.clock.in_force_since.clone(),
        retired_at: key.clock.retired_at.clone(),
    })
}

/// Keys that begin to sign, or end. The first one of a cache is no news.
pub(super) fn events(old: &BinaryCacheStatus, new: &BinaryCacheStatus) -> Vec<(&'static str, String)> {
    let news = new.signing_keys.iter().filter_map(|key| {
        let before = old.signing_keys.iter().find(|before| before.name == key.name);
        let reason = match key.stage {
            _ if old.signing_keys.is_empty() || before.is_some_and(|before| before.stage == key.stage) => {
                return None;
            }
            KeyStage::Publish => "SigningKeyPublished",
            KeyStage::Sign => "SigningKeyPromoted",
            KeyStage::Retire => "SigningKeyRetired",
            KeyStage::Revoke => "SigningKeyRevoked",
            KeyStage::Auto => return None,
        };
        Some((reason, format!("{}: {:?}", key.name, key.stage)))
    });
    news.collect()
}
