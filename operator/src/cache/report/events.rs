//! Pure: what was done in this look, and what came to its end.

use crate::cache::apply::Applied;
use crate::cache::validate::ValidCache;
use crate::crd::BinaryCacheStatus;
use crate::crd::conditions::{self, ConditionType, Reason, Verdict};

type News = Vec<(&'static str, String)>;

/// Secrets that were made, and pods that are made anew or have been.
pub(super) fn events(
    valid: &ValidCache,
    applied: &Applied,
    old: &BinaryCacheStatus,
    new: &BinaryCacheStatus,
) -> News {
    let mut news: News = applied.made.iter().map(|secret| made(valid, secret)).collect();
    news.extend(applied.rolled.as_ref().map(|why| ("RolloutStarted", format!("pods are made anew: {why}"))));
    if progressing(old).is_some_and(|(status, _)| status == Verdict::True.as_str())
        && progressing(new) == Some((Verdict::False.as_str(), Reason::Stable.as_str()))
    {
        news.push(("RolloutComplete", "all pods are up to date and ready".to_owned()));
    }
    news
}

fn made(valid: &ValidCache, secret: &str) -> (&'static str, String) {
    let of = |key: &&crate::cache::validate::Key| key.generated.is_some() && key.secret.secret == secret;
    match valid.signing.keys.iter().find(of) {
        Some(key) => ("SigningKeyGenerated", format!("{}, in Secret {secret}", key.name)),
        None => ("SecretCreated", format!("made Secret {secret}")),
    }
}

fn progressing(status: &BinaryCacheStatus) -> Option<(&str, &str)> {
    let found = conditions::find(&status.conditions, ConditionType::Progressing)?;
    Some((&found.status, &found.reason))
}
