//! Pure: how the signing keys stand.

use crate::cache::validate::{Key, Signing};
use crate::crd::BinaryCacheStatus;
use crate::crd::binary_cache::{KeyStage, ResignProgress, SigningKeyStatus};
use crate::crd::conditions::{ConditionType, Finding, Reason};

use super::resign;

const ABOUT: ConditionType = ConditionType::SigningKeysReady;

pub(super) fn signing(signing: &Signing, resign: Option<&ResignProgress>) -> Finding {
    let needed = |key: &&Key| !matches!(key.stage, KeyStage::Retire | KeyStage::Revoke);
    if let Some((reason, message)) =
        signing.keys.iter().filter(needed).find_map(|key| key.material.as_ref().err())
    {
        return Finding::no(ABOUT, *reason, message);
    }
    let names: Vec<&str> = signing.signing().map(|key| key.name.as_str()).collect();
    let verb = if names.len() == 1 { "signs" } else { "sign" };
    let mut now = format!("{} {verb}", names.join(", "));
    if let Some(sentence) = resign::sentence(resign, names.len() > 1) {
        now = format!("{now}; {sentence}");
    }
    if let Some(old) = signing.waiting() {
        now = format!("{now}; {} retires once they are all signed again", old.name);
    }
    if let Some(next) = signing.keys.iter().find(|key| key.stage == KeyStage::Publish) {
        return match signing.signs_at(next) {
            Some(at) if next.wanted == KeyStage::Auto => {
                let message = format!("{now}; {} is published and signs from {at}", next.name);
                Finding::yes(ABOUT, Reason::RotationInProgress, message)
            }
            _ => {
                let message = format!("{now}; {} is published and signs when its stage is Sign", next.name);
                Finding::yes(ABOUT, Reason::AwaitingPromotion, message)
            }
        };
    }
    let reason = if names.len() > 1 { Reason::RotationInProgress } else { Reason::Stable };
    Finding::yes(ABOUT, reason, now)
}

/// A key that was never there has nothing to tell.
pub(super) fn status(key: &Key) -> Option<SigningKeyStatus> {
    Some(SigningKeyStatus {
        name: key.name.clone(),
        public_key: key.public_key.clone()?,
        secret_name: key.secret.secret.clone(),
        stage: key.stage,
        published_at: key.clock.published_at.clone(),
        signing_since: key.clock.signing_since.clone(),
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
