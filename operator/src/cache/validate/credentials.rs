//! Pure: the generated credentials of an embedded server, and how one generation follows another when that is asked
//! for. First the server takes both, then the cache's pods use the new one, then the old one opens nothing any more. How
//! far that is stands in an annotation of the first Secret, so that nothing is lost with the status.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};

use crate::asked::asked_at;
use crate::crd::BinaryCache;
use crate::crd::binary_cache::ROTATE_CREDENTIALS;
use crate::crd::conditions::Reason;
use crate::labels::{self, CREDENTIALS, Names, SECRET_VERSIONS};
use crate::rollouts;
use crate::status::timestamp;

use super::Invalid;
use super::secrets::{Generated, Resolver};

/// Pods that are on their way out use the old credentials for so long.
const LAST_PODS: SignedDuration = SignedDuration::from_secs(120);

/// How far the credentials of one server are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Progress {
    /// What was asked for last.
    pub requested: String,
    /// The Secret that is in force.
    pub current: String,
    /// The one that follows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Successor>,
}

/// Credentials that follow others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Successor {
    /// Their Secret.
    pub secret: String,
    /// Since when the cache's pods are given them: the server took both by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_since: Option<String>,
    /// When those before them open nothing any more: no pod has used them for a while by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone_from: Option<String>,
}

/// The credentials of one server.
#[derive(Debug)]
pub struct Credentials {
    /// Those in force.
    pub current: Generated,
    /// Those that follow, which the server takes too.
    pub next: Option<Generated>,
    /// How far they are; none where they never were asked to change.
    pub progress: Option<Progress>,
    /// The first Secret, where that has to be written down.
    pub note: Option<Note>,
}

/// What has to be written down in the first Secret.
#[derive(Debug)]
pub struct Note {
    /// Its name.
    pub secret: String,
    /// Its version.
    pub version: String,
}

impl Credentials {
    /// Those that the server takes.
    pub fn taken(&self) -> impl Iterator<Item = &Generated> {
        std::iter::once(&self.current).chain(&self.next)
    }

    /// Those that the cache's pods use.
    pub fn used(&self) -> &Generated {
        let successor = self.progress.as_ref().and_then(|progress| progress.next.as_ref());
        let used = successor.is_some_and(|successor| successor.used_since.is_some());
        self.next.as_ref().filter(|_| used).unwrap_or(&self.current)
    }

    /// Which of them the server's pods have, as their annotation says it.
    pub fn versions(&self) -> String {
        let each: Vec<String> = self.taken().map(|one| format!("{}={}", one.name, one.id)).collect();
        each.join(",")
    }

    /// When there is something to do that nobody tells of.
    pub fn due(&self) -> Option<Timestamp> {
        self.progress.as_ref()?.next.as_ref()?.alone_from.as_ref()?.parse().ok()
    }
}

/// What the annotation of a cache asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Nothing.
    None,
    /// Nothing that could be carried out: why.
    Refused(String),
    /// Credentials that are newer than this.
    NewerThan(Timestamp, String),
}

/// What the annotation of a cache asks for.
pub fn request(cache: &BinaryCache, now: Timestamp) -> Request {
    let Some(text) = cache.annotations().get(ROTATE_CREDENTIALS) else { return Request::None };
    match asked_at(text, now) {
        Err(wrong) => Request::Refused(format!("annotation {ROTATE_CREDENTIALS}: {wrong}")),
        Ok(at) if at > now => {
            Request::Refused(format!("annotation {ROTATE_CREDENTIALS}: the time {text} has not come"))
        }
        Ok(_) if cache.spec.storage.embedded.is_none() && cache.spec.database.embedded.is_none() => {
            Request::Refused(format!(
                "annotation {ROTATE_CREDENTIALS}: storage and database are your own, and so are their credentials"
            ))
        }
        Ok(at) => Request::NewerThan(at, text.clone()),
    }
}

/// What the first Secret of a server says of its credentials.
pub fn progress(secret: &Secret) -> Result<Option<Progress>, Invalid> {
    let Some(text) = secret.annotations().get(CREDENTIALS) else { return Ok(None) };
    serde_json::from_str(text).map(Some).map_err(|error| Invalid {
        reason: Reason::InvalidSpec,
        message: format!(
            "Secret {}: its annotation {CREDENTIALS} says which credentials are in force and cannot be read: {error}; \
             put back what it was",
            secret.name_any()
        ),
    })
}

/// The Secret that a request leads to. The same for the same request, so that it is made once.
fn follows(request: &Request, first: &Secret, progress: Option<&Progress>) -> Option<Progress> {
    let Request::NewerThan(at, text) = request else { return None };
    let since = match progress {
        Some(Progress { next: Some(_), .. }) => return None,
        Some(progress) => progress.requested.parse().unwrap_or(Timestamp::UNIX_EPOCH),
        // Made after it was asked for, they are new enough.
        None => first.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    };
    (*at > since).then(|| {
        let base = first.name_any();
        let secret = labels::generation(&base, text);
        let current = progress.map_or(base, |progress| progress.current.clone());
        let next = Successor { secret, used_since: None, alone_from: None };
        Progress { requested: text.clone(), current, next: Some(next) }
    })
}

/// The Secrets beside the first one that a look at a server's credentials needs.
pub fn others(request: &Request, first: &Secret) -> Vec<String> {
    let Ok(known) = progress(first) else { return Vec::new() };
    let progress = follows(request, first, known.as_ref()).or(known);
    let both = progress.map(|progress| (progress.current, progress.next.map(|next| next.secret)));
    both.into_iter().flat_map(|(current, next)| std::iter::once(current).chain(next)).collect()
}

/// The credentials of a server with a name of its own, as they are from now on. `linger` is how long what was signed with
/// them is in the hands of clients.
pub(super) fn credentials(
    base: &str,
    request: &Request,
    linger: SignedDuration,
    resolver: &mut Resolver<'_>,
) -> Result<Credentials, Invalid> {
    let observed = resolver.observed;
    let first = observed.secrets.get(base).filter(|found| labels::is_ours(found, resolver.cache));
    let Some(first) = first else {
        let current = resolver.generated(base)?;
        resolver.note(&current);
        return Ok(Credentials { current, next: None, progress: None, note: None });
    };
    let before = progress(first)?;
    let mut progress = follows(request, first, before.as_ref()).or_else(|| before.clone());
    let name = progress.as_ref().map_or(base, |progress| progress.current.as_str());
    let mut credentials =
        Credentials { current: resolver.generated(name)?, next: None, progress: None, note: None };
    if let Some(next) = progress.as_ref().and_then(|progress| progress.next.as_ref()) {
        credentials.next = Some(resolver.generated(&next.secret)?);
    }
    if before.is_some() && before == progress {
        let set = observed.stateful_sets.get(base);
        step(&mut progress, &mut credentials, set, observed.deployment.as_ref(), linger, observed.now);
    }
    if before != progress {
        let version = first.resource_version().unwrap_or_default();
        credentials.note = Some(Note { secret: base.to_owned(), version });
    }
    credentials.progress = progress;
    resolver.note(credentials.used());
    Ok(credentials)
}

/// One step further, where it is time for that.
fn step(
    progress: &mut Option<Progress>,
    credentials: &mut Credentials,
    set: Option<&StatefulSet>,
    pods: Option<&Deployment>,
    linger: SignedDuration,
    now: Timestamp,
) {
    let Some(known) = progress else { return };
    let (Some(next), Some(generated)) = (&mut known.next, &credentials.next) else { return };
    if next.used_since.is_none() {
        if set.is_some_and(|set| runs(set, &credentials.versions())) {
            next.used_since = Some(timestamp(now));
        }
        return;
    }
    let Some(alone) = next.alone_from.as_ref().and_then(|text| text.parse::<Timestamp>().ok()) else {
        if pods.is_some_and(|pods| use_alone(pods, generated)) {
            let until = now.checked_add(linger.saturating_add(LAST_PODS)).unwrap_or(Timestamp::MAX);
            next.alone_from = Some(timestamp(until));
        }
        return;
    };
    if alone <= now {
        known.current.clone_from(&next.secret);
        known.next = None;
        if let Some(generated) = credentials.next.take() {
            credentials.current = generated;
        }
    }
}

/// Whether the one pod of a server has these credentials and is ready.
fn runs(set: &StatefulSet, versions: &str) -> bool {
    let (Some(spec), Some(status)) = (&set.spec, &set.status) else { return false };
    let annotations = spec.template.metadata.as_ref().and_then(|meta| meta.annotations.as_ref());
    annotations.and_then(|all| all.get(SECRET_VERSIONS)).is_some_and(|found| found == versions)
        && status.observed_generation >= set.metadata.generation
        && status.update_revision.is_some()
        && status.update_revision == status.current_revision
        && status.updated_replicas.or(status.current_replicas) == Some(1)
        && status.ready_replicas == Some(1)
}

/// Whether all pods of the cache have these credentials, and are ready.
fn use_alone(pods: &Deployment, credentials: &Generated) -> bool {
    rollouts::secret_versions(pods).get(&credentials.name) == Some(&credentials.id)
        && rollouts::is_complete(pods)
}

/// The role by which the cache's pods log in with the credentials of a Secret: of the first one, the owner of all.
pub fn role(owner: &str, cache: &str, secret: &str) -> String {
    let generation = secret.strip_prefix(&Names(cache).postgres()).and_then(|rest| rest.strip_prefix('-'));
    generation.map_or_else(|| owner.to_owned(), |generation| format!("{owner}_{generation}"))
}
