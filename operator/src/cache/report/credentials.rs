//! Pure: how generated credentials follow one another.

use k8s_openapi::jiff::Timestamp;

use crate::cache::validate::ValidCache;
use crate::cache::validate::credentials::{Credentials, Request, Successor};
use crate::crd::conditions::{ConditionType, Finding, Reason};

const ABOUT: ConditionType = ConditionType::CredentialsRotated;

/// Nothing where that was never asked for.
pub(super) fn rotated(valid: &ValidCache) -> Option<Finding> {
    if let Request::Refused(why) = &valid.credentials_request {
        return Some(Finding::no(ABOUT, Reason::InvalidRequest, why));
    }
    let all: Vec<_> = changed(valid).collect();
    let said: Vec<String> = all.iter().map(|(what, one)| sentence(what, one)).collect();
    let moving = all.iter().any(|(_, one)| one.next.is_some());
    let finding = |said| {
        if moving {
            Finding::no(ABOUT, Reason::RotationInProgress, said)
        } else {
            Finding::yes(ABOUT, Reason::Stable, said)
        }
    };
    (!said.is_empty()).then(|| finding(said.join("; ")))
}

/// What happened to them in this look.
pub(super) fn events(valid: &ValidCache) -> Vec<(&'static str, String)> {
    let news = changed(valid).filter(|(_, one)| one.note.is_some());
    news.map(|(what, one)| ("CredentialsChanged", sentence(what, one))).collect()
}

/// When there is something to do that nobody tells of.
pub(super) fn due(valid: &ValidCache) -> Option<Timestamp> {
    valid.embedded().filter_map(|(_, server)| server.credentials.due()).min()
}

fn changed(valid: &ValidCache) -> impl Iterator<Item = (&'static str, &Credentials)> {
    let all = valid.embedded().map(|(what, server)| (what, &server.credentials));
    all.filter(|(_, one)| one.progress.is_some())
}

fn sentence(what: &str, credentials: &Credentials) -> String {
    let current = &credentials.current.name;
    let successor = credentials.progress.as_ref().and_then(|progress| progress.next.as_ref());
    match successor {
        None => format!("{what} takes the credentials of Secret {current} alone"),
        Some(Successor { secret, used_since: None, .. }) => {
            format!("{what} is told to take the credentials of Secret {secret} beside those of {current}")
        }
        Some(Successor { secret, alone_from: None, .. }) => {
            format!(
                "{what} takes the credentials of both; the cache's pods change from Secret {current} to {secret}"
            )
        }
        Some(Successor { secret, alone_from: Some(at), .. }) => format!(
            "{what}: the cache's pods use Secret {secret}; what was signed with {current} is good until {at}"
        ),
    }
}
