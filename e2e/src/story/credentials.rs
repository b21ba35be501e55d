//! The generated credentials of the embedded servers are followed by new ones, and the old ones open nothing any more
//! (docs/embedded.md).

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::changes::{LIFE, SERVERS};
use super::{NAMESPACE, changes, network};
use crate::cluster::{Cluster, condition};
use crate::jobs;
use crate::teller::Teller;

const LIMIT: Duration = Duration::from_mins(4);
const S3: &str = "main-s3";
const POSTGRES: &str = "main-postgres";
/// Where the operator writes down how far credentials are.
const CLOCK: &str = "niks3.dev/credentials";

pub(super) fn follow(cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
    let opens = |s3: &str, postgres: &str| -> anyhow::Result<(bool, bool)> {
        Ok((opens_s3(cluster, s3)?, opens_postgres(cluster, postgres)?))
    };
    ensure!(opens(S3, POSTGRES)? == (true, true), "the first credentials should open S3 and PostgreSQL");
    let asked = cluster.run("date -u +%FT%TZ", None)?.trim().to_owned();
    cluster.show(&format!(
        "kubectl annotate binarycache main -n {NAMESPACE} --overwrite niks3.dev/rotate-credentials={asked}"
    ))?;
    cluster.wait("pods with new credentials", LIMIT, || {
        Ok((rotated(cluster)?["message"].to_string().matches("is good until").count() == 2).then_some(()))
    })?;
    LIFE.goes_on(cluster, teller, "the cache's pods use new credentials")?;
    let [s3, postgres] = [S3, POSTGRES].map(|base| successor(cluster, base));
    let (s3, postgres) = (s3?, postgres?);
    ensure!(opens(S3, POSTGRES)? == (true, true), "the old credentials are still in somebody's hands");
    ensure!(opens(&s3, &postgres)? == (true, true), "the new credentials should open S3 and PostgreSQL");
    teller.holds("both servers take the old and the new ones");

    // Nobody may be cut short who has them still.
    cluster.wait("the pods with the old credentials to go", LIMIT, || {
        let wanted = cluster.get(&format!("deployment main -n {NAMESPACE}"))?["spec"]["replicas"].as_u64();
        let pods = cluster.names(&format!("{SERVERS} -n {NAMESPACE}"))?;
        Ok((u64::try_from(pods.len()).ok() == wanted).then_some(()))
    })?;
    teller.command("the hours pass that upload addresses live: aloneFrom of both Secrets is in the past");
    for base in [S3, POSTGRES] {
        wind(cluster, base)?;
    }
    // Secrets are not watched: news of the cache let the operator look at them before it would.
    cluster.run(
        &format!(
            "kubectl annotate binarycache main -n {NAMESPACE} --overwrite niks3.dev/story=hours-have-passed"
        ),
        None,
    )?;
    cluster.wait("the new credentials alone", LIMIT, || {
        Ok((rotated(cluster)?["status"] == "True").then_some(()))
    })?;
    for base in [S3, POSTGRES] {
        changes::restarted(cluster, base)?;
    }
    teller.output(rotated(cluster)?["message"].as_str().unwrap_or_default());
    LIFE.goes_on(cluster, teller, "the new credentials are the only ones")?;
    ensure!(opens(&s3, &postgres)? == (true, true), "the new credentials should open S3 and PostgreSQL");
    ensure!(opens(S3, POSTGRES)? == (false, false), "the old credentials open something still");
    teller.holds("the old credentials open neither S3 nor PostgreSQL");
    Ok(())
}

/// The condition that says how far it is.
fn rotated(cluster: &Cluster<'_>) -> anyhow::Result<Value> {
    let cache = cluster.get(&format!("binarycache main -n {NAMESPACE}"))?;
    Ok(condition(&cache, "CredentialsRotated").clone())
}

fn clock(cluster: &Cluster<'_>, base: &str) -> anyhow::Result<Value> {
    let secret = cluster.get(&format!("secret {base} -n {NAMESPACE}"))?;
    let text = secret["metadata"]["annotations"][CLOCK].as_str().context("a Secret without its clock")?;
    Ok(serde_json::from_str(text)?)
}

/// The Secret that follows the first one.
fn successor(cluster: &Cluster<'_>, base: &str) -> anyhow::Result<String> {
    let clock = clock(cluster, base)?;
    Ok(clock["next"]["secret"]
        .as_str()
        .with_context(|| format!("nothing follows {base}: {clock}"))?
        .to_owned())
}

fn wind(cluster: &Cluster<'_>, base: &str) -> anyhow::Result<()> {
    let mut clock = clock(cluster, base)?;
    clock["next"]["aloneFrom"] = json!("2026-01-01T00:00:00Z");
    let patch = json!({"metadata": {"annotations": {CLOCK: clock.to_string()}}});
    cluster
        .run(&format!("kubectl patch secret {base} -n {NAMESPACE} --type merge -p '{patch}'"), None)
        .map(drop)
}

fn value(cluster: &Cluster<'_>, secret: &str, key: &str) -> anyhow::Result<String> {
    let template = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
    cluster.run(&format!("kubectl get secret {secret} -n {NAMESPACE} -o '{template}'"), None)
}

/// Whether the S3 server lists the bucket for who has the key of this Secret.
fn opens_s3(cluster: &Cluster<'_>, secret: &str) -> anyhow::Result<bool> {
    let (id, key) = (value(cluster, secret, "access-key")?, value(cluster, secret, "secret-key")?);
    let answer = cluster.run(
        &format!(
            "kubectl exec job/{} -n {} -- curl -s -o /dev/null -w %{{http_code}} -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' \
             --aws-sigv4 aws:amz:us-east-1:s3 --user {id}:{key} http://{S3}.{NAMESPACE}.svc:7070/nix-cache",
            LIFE.0,
            jobs::NAMESPACE
        ),
        None,
    );
    match answer.map_err(|_| anyhow::anyhow!("S3 could not be asked"))?.as_str() {
        "200" => Ok(true),
        // versitygw does not find who is no account of its own; the bucket it found for another a moment ago.
        "403" | "404" => Ok(false),
        other => bail!("S3 answers {other}"),
    }
}

/// Whether PostgreSQL lets in who has the password of this Secret.
fn opens_postgres(cluster: &Cluster<'_>, secret: &str) -> anyhow::Result<bool> {
    let generation = secret.strip_prefix(POSTGRES).and_then(|rest| rest.strip_prefix('-'));
    let user = generation.map_or_else(|| "niks3".to_owned(), |generation| format!("niks3_{generation}"));
    let password = value(cluster, secret, "password")?;
    // Of its own pod: policies let it speak to nobody, name servers included.
    let address = network::address(cluster, NAMESPACE, "main-postgres-0")?;
    let asked = cluster.run(
        &format!(
            "kubectl exec main-postgres-0 -n {NAMESPACE} -- psql postgres://{user}:{password}@{address}/niks3 -tAc 'select 1'"
        ),
        None,
    );
    match asked {
        Ok(answer) => Ok(answer.trim() == "1"),
        Err(error) if error.to_string().contains("password authentication failed") => Ok(false),
        // Not the error itself: it has the command, and so the password.
        Err(_) => bail!("PostgreSQL could not be asked with the password of Secret {secret}"),
    }
}
