//! One signing key follows another, and what clients that trust one of them can read (docs/keys.md).

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::changes::{LIFE, patch};
use super::{Cache, NAMESPACE};
use crate::cluster::{Cluster, condition};
use crate::jobs::Job;
use crate::teller::Teller;

/// A kubelet takes a minute and a half to refresh a file, and the operator looks again after some seconds.
const LIMIT: Duration = Duration::from_mins(4);

/// A path that nobody pushed before, and that refers to nothing: what it refers to may have other signatures.
const PUSH: &str = r#"
path=$(nix-store --query --requisites "$(closure --variant "$VARIANT" --mib 1 --parts 1)" | grep -e "-data-$VARIANT")
niks3 push "$path"
echo "PUSHED $path"
"#;

/// Each path for each key, into a store of its own.
const READ: &str = r#"
for path in $PATHS; do
  for key in $KEYS; do
    store=$(mktemp -d)
    if nix --extra-experimental-features nix-command --option trusted-public-keys "$key" --option require-sigs true \
      copy --from "$SUBSTITUTER" --to "$store" "$path"; then echo "READS yes"; else echo "READS no"; fi
  done
done
"#;

pub(super) fn rotate(cluster: &Cluster<'_>, teller: &Teller, cache: &Cache) -> anyhow::Result<()> {
    let old = &cache.public_key;
    let name = old.split_once(':').context("a public key without name")?.0;
    let keys = |old: &str, new: &str| {
        format!(
            r#"{{"spec": {{"signing": {{"keys": [{{"name": "{name}", "stage": "{old}"}}, {{"name": "main-next", "stage": "{new}"}}]}}}}}}"#
        )
    };
    let before = push(cluster, cache, "before")?;
    let rollouts = rollouts(cluster)?;
    patch(cluster, &keys("Sign", "Sign"))?;
    let signing = taken(cluster, &["Sign", "Sign"])?;
    let new = signing[1]["publicKey"].as_str().context("a key without its public half")?.to_owned();
    LIFE.goes_on(cluster, teller, "both keys sign")?;
    let both = push(cluster, cache, "both")?;
    patch(cluster, &keys("Retire", "Sign"))?;
    taken(cluster, &["Retire", "Sign"])?;
    LIFE.goes_on(cluster, teller, "the old key is retired")?;
    let after = push(cluster, cache, "after")?;
    ensure!(self::rollouts(cluster)? == rollouts, "a rotation needs no new pod");

    teller.command("nix copy of a path pushed before, in and after the overlap, by clients that trust the old key, the new one");
    let (paths, all) = (format!("{before} {both} {after}"), format!("{old} {new}"));
    let env = [("SUBSTITUTER", cache.url.as_str()), ("PATHS", &paths), ("KEYS", &all)];
    let reads = Job { name: "read", account: "default", env: &env, audience: None, script: READ }
        .run(cluster)?
        .lines("READS");
    let reads: Vec<&str> = reads.iter().map(String::as_str).collect();
    let [before_old, _, both_old, both_new, after_old, after_new] = reads[..] else {
        anyhow::bail!("six answers were expected: {reads:?}")
    };
    teller.output(&format!("pushed before   {before_old:4}\nin the overlap  {both_old:4} {both_new}\nafter           {after_old:4} {after_new}"));
    ensure!(before_old == "yes", "what the old key signed is not read by who trusts it");
    ensure!((both_old, both_new) == ("yes", "yes"), "in the overlap either key should be enough");
    ensure!((after_old, after_new) == ("no", "yes"), "afterwards only the new key should be enough");
    teller.holds("before, in and after the overlap clients read what the table in docs/keys.md says");
    Ok(())
}

fn push(cluster: &Cluster<'_>, cache: &Cache, variant: &str) -> anyhow::Result<String> {
    let variant = format!("rotation-{variant}");
    let env = [("NIKS3_SERVER_URL", cache.endpoint.as_str()), ("VARIANT", &variant)];
    let job =
        Job { name: "push", account: "builder", env: &env, audience: Some(&cache.audience), script: PUSH }
            .run(cluster)?;
    ensure!(job.succeeded, "the push failed with exit code {}:\n{}", job.exit_code, job.told());
    job.lines("PUSHED").into_iter().next().context("the Job did not say what it pushed")
}

/// Waits until the keys are at these stages and all servers that run sign with those that do; gives the keys.
fn taken(cluster: &Cluster<'_>, stages: &[&str]) -> anyhow::Result<Vec<Value>> {
    cluster.wait("the keys' stages in every pod", LIMIT, || {
        let cache = cluster.get(&format!("binarycache main -n {NAMESPACE}"))?;
        let keys = cache["status"]["signingKeys"].as_array().cloned().unwrap_or_default();
        let at: Vec<&str> = keys.iter().filter_map(|key| key["stage"].as_str()).collect();
        let message = condition(&cache, "SigningKeysReady")["message"].as_str().unwrap_or_default();
        let all = at != ["Sign", "Sign"] || keys[1]["inForceSince"].is_string();
        let lags = message.contains("sign with these keys yet");
        Ok((at == stages && all && !lags).then_some(keys))
    })
}

/// What changes with the Deployment's spec: its pods are new ones then.
fn rollouts(cluster: &Cluster<'_>) -> anyhow::Result<Value> {
    let deployment = cluster.get(&format!("deployment main -n {NAMESPACE}"))?;
    Ok(deployment["spec"]["template"].clone())
}
