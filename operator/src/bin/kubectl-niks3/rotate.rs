//! `kubectl niks3 rotate`: changes `spec.signing.keys` as docs/keys.md tells it.

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use niks3_operator::asked::asked;
use niks3_operator::cache::validate::counted_up;
use niks3_operator::crd::BinaryCache;
use niks3_operator::crd::binary_cache::{KeyStage, Promotion, ROTATE_CREDENTIALS, SigningKeyStatus};
use niks3_operator::crd::conditions::{ConditionType, Reason};
use serde_json::{Value, json};

use crate::args::RotateArgs;
use crate::cluster::{Cluster, full_name, said};
use crate::say;

pub(crate) async fn run(cluster: &Cluster, args: &RotateArgs) -> anyhow::Result<String> {
    let cache = cluster.cache(args.cache.as_deref()).await?;
    let (name, full) = (cache.name_any(), full_name(&cache));
    if args.credentials {
        return credentials(cluster, &cache, args.dry_run).await;
    }
    let change = Change::of(args);
    let (keys, sentence) = change.carry_out(&cache).with_context(|| format!("BinaryCache {full}"))?;
    // With the version that was read: what somebody else changed meanwhile is not overwritten.
    let version = cache.resource_version();
    let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"signing": {"keys": keys}}});
    let how = PatchParams { dry_run: args.dry_run, ..PatchParams::default() };
    let patched = cluster.api::<BinaryCache>().patch(&name, &how, &Patch::Merge(patch)).await;
    patched.map_err(|error| said(error, &format!("BinaryCache {full} was not changed")))?;
    let done = if args.dry_run { "would be changed" } else { "was changed" };
    say(&format!("BinaryCache {full} {done}: {sentence}"));
    if let Some(tool) = applied_by(&cache) {
        say(&format!("It is applied by {tool}: put the same there, or it is taken back."));
    }
    Ok(serde_norway::to_string(&json!({"spec": {"signing": {"keys": keys}}}))?)
}

/// The operator does the rest: what it is at stands in the condition.
async fn credentials(cluster: &Cluster, cache: &BinaryCache, dry_run: bool) -> anyhow::Result<String> {
    let (name, full) = (cache.name_any(), full_name(cache));
    let (storage, database) = (&cache.spec.storage.embedded, &cache.spec.database.embedded);
    ensure!(
        storage.is_some() || database.is_some(),
        "BinaryCache {full}: storage and database are your own, and so are their credentials"
    );
    let conditions = cache.status.iter().flat_map(|status| &status.conditions);
    let rotated = ConditionType::CredentialsRotated.as_str();
    let moving = conditions.into_iter().find(|condition| {
        condition.type_ == rotated && condition.reason == Reason::RotationInProgress.as_str()
    });
    if let Some(moving) = moving {
        bail!("BinaryCache {full}: one rotation is under way: {}", moving.message);
    }
    let now = asked(Timestamp::now());
    let patch = json!({"metadata": {"annotations": {ROTATE_CREDENTIALS: now}}});
    let how = PatchParams { dry_run, ..PatchParams::default() };
    let patched = cluster.api::<BinaryCache>().patch(&name, &how, &Patch::Merge(patch)).await;
    patched.map_err(|error| said(error, &format!("BinaryCache {full} was not changed")))?;
    let done = if dry_run { "would be asked for" } else { "are asked for" };
    say(&format!(
        "BinaryCache {full}: new credentials {done}; the condition {rotated} says how far they are"
    ));
    Ok(String::new())
}

/// Who else writes the spec.
fn applied_by(cache: &BinaryCache) -> Option<&'static str> {
    let has =
        |key: &str| cache.labels().keys().chain(cache.annotations().keys()).any(|at| at.starts_with(key));
    match () {
        () if has("argocd.argoproj.io/") => Some("Argo CD"),
        () if has("kustomize.toolkit.fluxcd.io/") || has("helm.toolkit.fluxcd.io/") => Some("Flux"),
        () if has("meta.helm.sh/") => Some("Helm"),
        () => None,
    }
}

#[derive(Debug)]
enum Change<'a> {
    Add(Option<&'a str>),
    Stage(&'a str, KeyStage),
    Remove(&'a str),
}

impl<'a> Change<'a> {
    fn of(args: &'a RotateArgs) -> Self {
        let staged = [
            (&args.promote, KeyStage::Sign),
            (&args.retire, KeyStage::Retire),
            (&args.revoke, KeyStage::Revoke),
        ];
        let staged = staged.into_iter().find_map(|(key, stage)| Some((key.as_deref()?, stage)));
        match (staged, args.remove.as_deref()) {
            (Some((key, stage)), _) => Self::Stage(key, stage),
            (None, Some(key)) => Self::Remove(key),
            (None, None) => Self::Add(args.add.as_deref()),
        }
    }

    /// The list of keys that the spec will have, and what that means.
    fn carry_out(&self, cache: &BinaryCache) -> anyhow::Result<(Vec<Value>, String)> {
        let status = cache.status.as_ref().map(|status| status.signing_keys.as_slice()).unwrap_or_default();
        let about = match *self {
            Self::Stage(name, _) => Some(name),
            Self::Add(_) | Self::Remove(_) => None,
        };
        let mut keys = listed(cache, status, about)?;
        let sentence = match *self {
            Self::Add(name) => add(cache, &mut keys, name, status)?,
            Self::Stage(name, stage) => {
                let (others, found) = (names(&keys), find(&mut keys, name));
                let key =
                    found.with_context(|| format!("there is no key {name}, but {}", others.join(", ")))?;
                key["stage"] = json!(stage);
                match stage {
                    KeyStage::Sign if cache.spec.signing.rotation.interval.is_some() => {
                        format!("{name} signs now; none follows it by itself until its stage is Auto again")
                    }
                    KeyStage::Sign => format!("{name} signs now"),
                    KeyStage::Retire => format!("{name} signs no more; what it signed stays trusted"),
                    _ => format!("{name} is taken back; clients drop it when they read the keys anew"),
                }
            }
            Self::Remove(name) => {
                let others = names(&keys);
                ensure!(
                    others.iter().any(|other| other == name),
                    "there is no key {name}, but {}",
                    others.join(", ")
                );
                keys.retain(|key| key["name"] != name);
                format!("{name} is no longer in the list; its Secret stays")
            }
        };
        Ok((keys, sentence))
    }
}

fn names(keys: &[Value]) -> Vec<String> {
    keys.iter().filter_map(|key| key["name"].as_str().map(str::to_owned)).collect()
}

fn find<'k>(keys: &'k mut [Value], name: &str) -> Option<&'k mut Value> {
    keys.iter_mut().find(|key| key["name"] == name)
}

/// The keys of the spec, and of those that nobody listed the ones that sign or are to: what signs no more goes by itself,
/// unless it is what this is about.
fn listed(
    cache: &BinaryCache,
    status: &[SigningKeyStatus],
    about: Option<&str>,
) -> anyhow::Result<Vec<Value>> {
    let spec = &cache.spec.signing.keys;
    let mut keys = spec.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    let mut next = 0;
    for key in status {
        let moves = matches!(key.stage, KeyStage::Publish | KeyStage::Sign);
        if let Some(found) = keys.iter().position(|listed| listed["name"] == key.name) {
            next = found + 1;
        } else if moves || about == Some(&key.name) {
            keys.insert(next, json!({"name": key.name}));
            next += 1;
        }
    }
    ensure!(!keys.is_empty(), "it has no signing key yet; `kubectl niks3 status` says why");
    Ok(keys)
}

fn add(
    cache: &BinaryCache,
    keys: &mut Vec<Value>,
    name: Option<&str>,
    status: &[SigningKeyStatus],
) -> anyhow::Result<String> {
    if let Some(waiting) = status.iter().find(|key| key.stage == KeyStage::Publish) {
        bail!("{} is published already and waits to sign; --promote {0} lets it sign now", waiting.name);
    }
    let signing = status.iter().filter(|key| key.stage == KeyStage::Sign).count();
    ensure!(
        signing < 2,
        "two keys sign already: one rotation at a time, `kubectl niks3 status` says how it stands"
    );
    let last = names(keys).pop().unwrap_or_default();
    let name = name.map_or_else(|| counted_up(&last), str::to_owned);
    ensure!(find(keys, &name).is_none(), "key {name} is in the list already");
    keys.push(json!({"name": name}));
    let rotation = &cache.spec.signing.rotation;
    let (wait, overlap) = (&rotation.publish_before_sign.0, &rotation.overlap.0);
    Ok(match rotation.promotion {
        Promotion::Automatic => format!(
            "{name} is published; it signs beside {last} after {wait}, and alone {overlap} later. Let clients read \
             the keys anew before: `kubectl niks3 use {}`",
            cache.name_any()
        ),
        Promotion::Manual => format!("{name} is published; it signs when --promote {name} tells it to"),
    })
}
