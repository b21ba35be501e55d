//! Pure: whether those who push can prove who they are. An issuer that is away harms its own tokens alone, so that nothing of
//! this is a part of `Ready`.

use niks3_protocol::api::Permission;
use niks3_protocol::api::health::{IssuerKeys, IssuerProblem, IssuerState, Readiness};

use crate::cache::validate::ValidCache;
use crate::crd::BinaryCacheStatus;
use crate::crd::conditions::{ConditionType, Finding, Reason, truncated};

use super::Outcome;
use super::findings::SUSPENDED;

const ABOUT: ConditionType = ConditionType::AuthReady;
/// What a pod says of a failure is a few words.
const MAX_WORDS: usize = 300;

pub(super) fn ready(outcome: &Outcome<'_>, valid: &ValidCache) -> Finding {
    if valid.suspended {
        return Finding::unknown(ABOUT, Reason::Suspended, SUSPENDED);
    }
    let told: Vec<&IssuerState> =
        outcome.keys.into_iter().flatten().filter_map(|pod| pod.issuers.as_ref()).flatten().collect();
    let away: Vec<(Reason, String)> = issuers(valid).filter_map(|name| trouble(valid, name, &told)).collect();
    if let Some((first, _)) = away.first() {
        let unreachable = away.iter().any(|(reason, _)| *reason == Reason::IssuerUnreachable);
        let reason = if unreachable { Reason::IssuerUnreachable } else { *first };
        let sentences: Vec<&str> = away.iter().map(|(_, sentence)| sentence.as_str()).collect();
        return Finding::no(ABOUT, reason, format!("{}; all others go on", sentences.join("; ")));
    }
    if !somebody_pushes(valid) {
        let message = "nobody may push: no rule and no token of spec.auth has the permission Push or Admin";
        return Finding::no(ABOUT, Reason::NoIdentityCanPush, message);
    }
    let well = || Finding::yes(ABOUT, Reason::Ready, "somebody may push, and no issuer of tokens is away");
    match outcome.probed {
        _ if !told.is_empty() || issuers(valid).next().is_none() => well(),
        Some(Ok(_)) => Finding::unknown(ABOUT, Reason::ServerUnreachable, "the server does not say"),
        Some(Err(why)) => Finding::unknown(ABOUT, Reason::ServerUnreachable, why),
        None => Finding::unknown(ABOUT, Reason::Reconciling, "not looked at yet"),
    }
}

/// Whether an issuer is away, of which no watch tells that it is back.
pub(super) fn is_away(finding: &Finding) -> bool {
    [Reason::IssuerUnreachable, Reason::JWKSStale].iter().any(|reason| finding.reason == reason.as_str())
}

/// What the server says of itself. Where it does not, what it said last stays.
pub(super) fn note(status: &mut BinaryCacheStatus, valid: Option<&ValidCache>, said: &Readiness) {
    status.schema_version = said.schema_version.or(status.schema_version);
    let before = status.kubernetes_issuer.take();
    let taken = valid.is_some_and(|valid| valid.audience.is_some());
    status.kubernetes_issuer = said.kubernetes_issuer.clone().or(before).filter(|_| taken);
}

/// The names of all whose tokens are taken; none is the cluster's own.
fn issuers(valid: &ValidCache) -> impl Iterator<Item = Option<&str>> {
    let cluster = valid.audience.iter().map(|_| None);
    cluster.chain(valid.issuers.iter().map(|issuer| Some(issuer.provider.name.as_str())))
}

/// What pods say of an issuer that does not give its keys. Each asks for itself, when a token comes in: the one that lacks
/// most speaks for all, and the first that found out says since when.
fn trouble(valid: &ValidCache, name: Option<&str>, told: &[&IssuerState]) -> Option<(Reason, String)> {
    let lacks = |keys: IssuerKeys| match keys {
        IssuerKeys::Absent => 0,
        IssuerKeys::Stale => 1,
        IssuerKeys::Fresh => 2,
    };
    let of_it = told.iter().filter(|state| state.name.as_deref() == name);
    let failed: Vec<(IssuerKeys, &IssuerProblem)> =
        of_it.filter_map(|state| Some((state.keys, state.problem.as_ref()?))).collect();
    let since = failed.iter().map(|(_, problem)| problem.since.as_str()).min()?;
    let (keys, problem) = failed.iter().min_by_key(|(keys, problem)| (lacks(*keys), &problem.since))?;
    let who = match valid.issuers.iter().find(|issuer| Some(issuer.provider.name.as_str()) == name) {
        Some(issuer) => format!("issuer {} ({})", issuer.provider.name, issuer.provider.issuer),
        None => "the cluster's own issuer".to_owned(),
    };
    let (reason, harm) = match keys {
        IssuerKeys::Absent => (Reason::IssuerUnreachable, "its tokens are refused"),
        IssuerKeys::Fresh => (Reason::IssuerUnreachable, "those it gave before count"),
        IssuerKeys::Stale => (Reason::JWKSStale, "those it gave before count, though they are too old"),
    };
    let why = truncated(&problem.message, MAX_WORDS);
    Some((reason, format!("{who} has given no keys since {since} ({why}): {harm}")))
}

fn somebody_pushes(valid: &ValidCache) -> bool {
    let tokens = valid.tokens.iter().map(|token| &token.permissions);
    let accounts = valid.rules.iter().filter(|_| valid.audience.is_some()).map(|rule| &rule.permissions);
    let rules = valid.issuers.iter().flat_map(|issuer| &issuer.provider.rules);
    let certificates = valid.certificates.iter().flat_map(|certificates| &certificates.section.rules);
    let all = tokens.chain(accounts).chain(rules.map(|rule| &rule.permissions));
    all.chain(certificates.map(|rule| &rule.permissions))
        .flatten()
        .any(|permission| matches!(permission, Permission::Push | Permission::Admin))
}
