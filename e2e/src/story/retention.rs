//! A policy for all caches of the namespace with `maxSize` and `keepLast`, and a comparison of bucket and database, both run at
//! once by its annotation.

use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

use super::NAMESPACE;
use super::collection::{count, sql};
use crate::cluster::{Cluster, condition};
use crate::teller::Teller;

const LIMIT: Duration = Duration::from_mins(3);
/// Of the pins that the pushes without pause left, the last three; of what nobody pinned, nothing that is above 1 MiB.
const POLICY: &str = r#"{"spec": {"cacheRef": null, "cacheSelector": {}, "safety": {"maxDeletePercent": 100},
    "retention": {"olderThan": null, "maxSize": "1Mi", "minAge": "0s", "deletionGrace": "0s",
    "pinRules": [{"prefix": "ci-life-", "keepLast": 3}]}}}"#;

pub(super) fn collect(cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
    let last = "select name from pins where name like 'ci-life-%' order by name desc limit 3";
    let expected = sql(cluster, last)?;
    let unpinned = "select count(*) from closures where key not in (select closure_key from pins)";
    let (pins, before) = (count(cluster, "select count(*) from pins")?, count(cluster, unpinned)?);
    ensure!(
        pins > 4 && before > 0,
        "{pins} pins and {before} closures without one are too few to choose from"
    );
    cluster.show(&format!("kubectl patch gcpolicy nightly -n {NAMESPACE} --type merge -p '{POLICY}'"))?;
    let run = ask(cluster, "", "lastRun")?;
    teller.output(&serde_json::to_string_pretty(&run)?);
    ensure!(run["result"] == "Succeeded", "the run failed: {run}");
    ensure!(sql(cluster, last)? == expected, "the last three pins have changed");
    let (pins, after) = (count(cluster, "select count(*) from pins")?, count(cluster, unpinned)?);
    ensure!(pins == 4, "{pins} pins are left, not ci-main and three more");
    ensure!(
        after == 0,
        "{after} closures without a pin are left, though the pinned ones alone take more than 1 MiB"
    );
    teller.holds("ci-main and the last three of ci-life- are there; what nobody pinned went, by size");
    cluster.wait("the cache's own status to say so", LIMIT, || {
        let cache = cluster.get(&format!("binarycache main -n {NAMESPACE}"))?;
        let last = &cache["status"]["lastGC"];
        let told = last["policy"] == "nightly" && last["finishedAt"] == run["finishedAt"];
        Ok((told && condition(&cache, "LastGCSucceeded")["status"] == "True").then_some(()))
    })?;
    teller.holds("the cache's own status says so too");
    Ok(())
}

/// What a cache's life left in its bucket is what its database says.
pub(super) fn compare(cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
    let fsck = r#"{"spec": {"fsck": {"schedule": "0 5 * * 0", "mode": "Check"}}}"#;
    cluster.show(&format!("kubectl patch gcpolicy nightly -n {NAMESPACE} --type merge -p '{fsck}'"))?;
    let run = ask(cluster, " Fsck", "lastFsck")?;
    teller.output(&serde_json::to_string_pretty(&run)?);
    ensure!(run["result"] == "Clean", "bucket and database differ: {run}");
    ensure!(run["objects"].as_i64().is_some_and(|count| count > 0), "it saw no objects: {run}");
    teller.holds("whatever a row promises is in the bucket");
    Ok(())
}

/// Asks for a run at once, and waits until the status has how it ended.
fn ask(cluster: &Cluster<'_>, word: &str, field: &str) -> anyhow::Result<Value> {
    let asked = format!("{}{word}", cluster.run("date -u +%FT%TZ", None)?.trim());
    cluster.show(&format!(
        "kubectl annotate gcpolicy nightly -n {NAMESPACE} --overwrite 'niks3.dev/run-now={asked}'"
    ))?;
    cluster.wait("the run that was asked for", LIMIT, || {
        let status = cluster.get(&format!("gcpolicy nightly -n {NAMESPACE}"))?["status"].clone();
        let (told, run) = (&status["runNow"], &status["caches"][0][field]);
        let ended = told["requested"] == asked.as_str()
            && told["caches"][0]["jobName"].is_string()
            && told["caches"][0]["jobName"] == run["jobName"]
            && run["finishedAt"].is_string();
        Ok(ended.then(|| run.clone()))
    })
}
